"""A configuration from options, files in two languages, or both; printed, and given back."""

import dataclasses
import inspect
import json
import tomllib
from pathlib import Path

import pytest

from gspo_rs.train.config.config import Config, ConfigError, resolve
from gspo_rs.train.config.presets import PRESETS
from gspo_rs.train.config.printed import as_toml, printed
from gspo_rs.train.config.sections import MAIN, SECTIONS, default_of, documented
from gspo_rs.train.config.toml import Settings, gather, load, placed
from gspo_rs.train.config.typed import parsed

FIELDS = [field.name for field in dataclasses.fields(Config)]
# A value for every field, none of them its default, and the words of an option that give it.
GIVEN = {
    "model": ("m", ["m"]),
    "output_dir": ("o", ["o"]),
    "prompts": (("a.jsonl", "b,c.jsonl"), ["a.jsonl", "b,c.jsonl"]),
    "reward": (("r:f", "r:g"), ["r:f,r:g"]),
    "rollouts": ("x.parquet", ["x.parquet"]),
    "reward_weights": ((1.0, -0.5), ["1", "-.5"]),
    "by": (("task", "item"), ["task", "item"]),
    "reward_column": ("score", ["score"]),
    "advantage_options": ({"k": 4, "baseline": "none"}, ["k=4", "baseline=none"]),
    "chat_template_kwargs": ({"enable_thinking": False}, ['{"enable_thinking": false}']),
    "lora_target_modules": (("q_proj", "v_proj"), ["q_proj,v_proj"]),
    "algorithm": ("dapo", ["dapo"]),
    "loss": ("gspo", ["gspo"]),
    "reduction": ("seq_sum", ["seq_sum"]),
    "on_long": ("drop", ["drop"]),
    "on_stale": ("correct", ["correct"]),
    "on_reward_failure": ("none", ["none"]),
    "reward_sandbox": ("bwrap", ["bwrap"]),
    "old_logprobs": ("sampler", ["sampler"]),
    "divergence": ("kl", ["kl"]),
    "correction": ("seq_mask", ["seq_mask"]),
    "kl_estimator": ("k2", ["k2"]),
    "overlong_penalty": ("soft", ["soft"]),
    "lr_scheduler_type": ("cosine", ["cosine"]),
    "dtype": ("bfloat16", ["bfloat16"]),
    "weights": ("bfloat16", ["bfloat16"]),
    "optimizer": ("adamw_8bit", ["adamw_8bit"]),
    "layout": ("padded", ["padded"]),
    "sampler_weights": ("nccl", ["nccl"]),
}


def example(name):
    """A value of a field and the words that give it."""
    if name in GIVEN:
        return GIVEN[name]
    kind = str(Config.__annotations__[name])
    if "bool" in kind:
        return not default_of(name), not default_of(name)
    if "int" in kind:
        return 7, ["7"]
    return (0.25, ["2.5e-1"]) if "float" in kind else ("text, with commas", ["text, with commas"])


@pytest.mark.parametrize("name", FIELDS)
def test_an_option_gives_each_field_the_value_that_python_gives_it(name):
    value, words = example(name)
    assert value != default_of(name)
    assert parsed(name, words, "--x") == value
    assert getattr(Config(**{"model": "m", name: value}), name) == value


def test_options_win_over_the_file_and_each_value_knows_where_it_is_from(tmp_path):
    (tmp_path / "run.toml").write_text('model = "m"\nseed = 1\ntop_k = 2\nprompts = "p.jsonl"\n')
    options = {"seed": ["3"], "rollouts": ["r.parquet"]}
    found = gather(tmp_path / "run.toml", ["seed=2", "top_k=4"], options)
    assert (found.config.seed, found.config.top_k) == (3, 4)
    # A path of the file is in its folder, that of an option in the present one.
    assert found.config.prompts == str(tmp_path / "p.jsonl")
    assert found.config.rollouts == "r.parquet"
    file = str(tmp_path / "run.toml")
    origins = {"model": file, "prompts": file, "seed": "--seed", "top_k": "--set"}
    assert found.origins == {**origins, "rollouts": "--rollouts"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "no model is given; give --model with --prompts and --reward, or with --rollouts"),
        ({"model": ["m"], "seed": ["1.5"]}, "--seed: seed = '1.5': expected an integer"),
        ({"model": ["m"], "top_p": ["2"]}, r"--top-p: top_p = 2.0: must be in \(0, 1\]"),
        ({"model": ["m"], "loss": ["gspso"]}, "--loss: loss = 'gspso': .*did you mean 'gspo'"),
        ({"model": ["m"], "reward_weights": ["a"]}, "expected a list of numbers"),
        ({"model": ["m"], "advantage_options": ["k"]}, "--advantage-options k: write key=value"),
    ],
)
def test_a_wrong_option_is_named_with_what_is_expected(options, message):
    with pytest.raises(ConfigError, match=message):
        gather(None, options=options)


def test_yaml_says_what_toml_says(tmp_path):
    (tmp_path / "run.yaml").write_text(
        "model: m\nprompts: p.jsonl\nreward: [r.py:f, g:h]\nlearning_rate: 1e-5\nseed: 3\n"
        "shuffle_dataset: false\nadvantage_options:\n  scale: none\n"
    )
    (tmp_path / "run.toml").write_text(
        'model = "m"\nprompts = "p.jsonl"\nreward = ["r.py:f", "g:h"]\nlearning_rate = 1e-5\n'
        'seed = 3\nshuffle_dataset = false\n[advantage_options]\nscale = "none"\n'
    )
    assert load(tmp_path / "run.yaml") == load(tmp_path / "run.toml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: m\nseed: 1\nseed: 2\n", "the key `seed` is there twice"),
        ("model: [\n", "not YAML: "),
        ("just words\n", "holds no keys"),
        ("", "holds no keys"),
        ("model: m\nsed: 1\n", "unknown key `sed`; did you mean `seed`"),
        ("model: m\nseed: 1.5\n", "seed = 1.5: expected an integer"),
        ("model: m\nlearning_rate: fast\n", "learning_rate = 'fast': expected a number"),
        ("model: !!python/object/apply:os.getcwd []\n", "not YAML: could not determine"),
    ],
)
def test_wrong_yaml_is_named_with_its_file(tmp_path, text, message):
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(ConfigError, match=rf"run\.yaml: {message}"):
        load(tmp_path / "run.yaml")


def test_a_run_file_of_another_language_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"run\.json: a run file is \.toml, \.yaml or \.yml"):
        load(tmp_path / "run.json")


@pytest.mark.parametrize("algorithm", PRESETS)
def test_what_is_printed_is_a_run_file_of_the_same_run(tmp_path, algorithm):
    fields = {"by": ("a", "b"), "output_dir": 'o"\\\n\x7fü', "reward_weights": (1e-7,)}
    config = Config(model="m", rollouts="r.parquet", algorithm=algorithm, **fields)
    (tmp_path / "again.toml").write_text(printed(Settings(config, {})))
    assert load(tmp_path / "again.toml") == placed(resolve(config), Path.cwd())


def test_each_line_of_what_is_printed_tells_where_its_value_is_from(tmp_path):
    (tmp_path / "run.toml").write_text('model = "m"\nrollouts = "r"\nclip_high = 0.3\nseed = 5\n')
    options = {"algorithm": ["dapo"], "seed": ["6"]}
    lines = printed(gather(tmp_path / "run.toml", [], options)).splitlines()
    found = {line.split(" = ")[0]: line.rpartition(" # ")[2] for line in lines if " = " in line}
    assert set(FIELDS) == {
        *found,
        *(line.split()[1] for line in lines if line.endswith("set")),
        *(line.split()[1] for line in lines if " is no option of " in line),
    }
    file = str(tmp_path / "run.toml")
    assert (found["seed"], found["algorithm"]) == ("--seed", "--algorithm")
    assert (found["clip_high"], found["model"]) == (file, file)
    assert (found["clip_low"], found["loss"]) == ("preset dapo", "preset dapo")
    assert (found["top_p"], found["output_dir"]) == ("default", "default")
    assert "# tau_pos is no option of the loss grpo" in lines
    assert "# max_steps is not set" in lines


@pytest.mark.parametrize(
    "value", ["", 'a "b" \\', "\x7f\x1b\n", "日本 😀", 1e-300, -3, True, ("a", "b"), {"a b": [1]}]
)
def test_a_value_is_in_toml_what_it_is_in_python(value):
    again = tomllib.loads(f"value = {as_toml(value)}")["value"]
    assert again == json.loads(json.dumps(value))


def test_every_field_is_in_one_section_and_has_its_own_sentence():
    listed = [name for names in SECTIONS.values() for name in names]
    assert sorted(listed) == sorted(FIELDS)
    assert set(documented()) == set(FIELDS)
    assert all(text and text.endswith(".") for text in documented().values())
    assert set(FIELDS) > MAIN


def test_the_docstring_says_the_type_of_each_field():
    text = inspect.cleandoc(Config.__doc__)
    for name in FIELDS:
        hint = str(Config.__annotations__[name])
        (line,) = [line for line in text.splitlines() if line.startswith(f"{name} : ")]
        assert ("None" in hint or "Optional" in hint) == ("optional" in line), name


def test_the_name_of_a_data_set_of_the_hub_and_standard_input_are_no_paths(tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "run.toml").write_text(
        'model = "m"\nprompts = "org/name"\neval_prompts = ["-"]\noutput_dir = "org/name"\n'
    )
    config = load(tmp_path / "run.toml")
    assert (config.prompts, config.eval_prompts) == ("org/name", ("-",))
    assert config.output_dir == str(tmp_path / "org/name")
    for path in ("runs/name", "org/name.jsonl", "name", "a/b/c"):
        (tmp_path / "run.toml").write_text(f'model = "m"\nrollouts = "{path}"\n')
        assert load(tmp_path / "run.toml").rollouts == str(tmp_path / path)
