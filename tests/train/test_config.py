"""The configuration: presets, rules and the TOML that people write."""

import dataclasses
import inspect
import json
from pathlib import Path
from typing import get_args

import pytest

from gspo_rs import losses
from gspo_rs.train.config.config import Config, ConfigError, resolve
from gspo_rs.train.config.presets import BESIDES, OPTIONS, PRESETS, Loss
from gspo_rs.train.config.toml import from_dict, load


@pytest.fixture
def run_file(tmp_path):
    def write(text, name="run.toml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def online(**fields):
    return Config(model="m", prompts="p.jsonl", reward="r.py:f", **fields)


def offline(**fields):
    return Config(model="m", rollouts="r.parquet", **fields)


def test_every_preset_is_a_choice_of_algorithm_and_the_reverse():
    for name in PRESETS:
        assert resolve(offline(algorithm=name)).loss == PRESETS[name].loss
    with pytest.raises(ConfigError, match="algorithm = 'ppo'"):
        online(algorithm="ppo")


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        ("percentile", ("percentile", "gspo", 3e-4, 4e-4, "seq_mean")),
        ("gspo", ("zscore", "gspo", 3e-4, 4e-4, "seq_mean")),
        ("gspo_token", ("zscore", "gspo_token", 3e-4, 4e-4, "seq_mean")),
        ("sapo", ("zscore", "sapo", None, None, "seq_mean")),
        ("dapo", ("zscore", "grpo", 0.2, 0.28, "token_mean")),
        ("dr_grpo", ("mean", "grpo", 0.2, 0.2, "constant")),
        ("pkpo", ("pkpo", "grpo", 0.2, 0.2, "seq_sum")),
        ("topx", ("top_fraction", "gspo", 3e-4, 4e-4, "seq_mean")),
        ("pl", ("percentile", "plackett_luce", None, None, None)),
        ("pairwise", ("percentile", "pairwise", None, None, None)),
    ],
)
def test_a_preset_sets_what_its_paper_says(algorithm, expected):
    config = resolve(online(algorithm=algorithm))
    found = config.advantage, config.loss, config.clip_low, config.clip_high, config.reduction
    assert found == expected


# What a preset decides, and of whatever loss.
DECIDED = {name for options in OPTIONS.values() for name in options} | set(BESIDES)
DECIDED |= {"advantage", "advantage_options", "loss", "reduction", "beta", "overlong_cache"}
WITHOUT = dict.fromkeys(DECIDED) | dict.fromkeys(BESIDES, False)
WITHOUT |= {"advantage_options": {}, "beta": 0.0, "overlong_penalty": "none"}


@pytest.mark.parametrize(
    ("algorithm", "turned_on"),
    [
        # 2507.18071, equations 4 to 7 and section 5.1
        (
            "gspo",
            {"advantage": "zscore", "loss": "gspo", "reduction": "seq_mean"}
            | {"clip_low": 3e-4, "clip_high": 4e-4},
        ),
        # 2511.20347, equations 5 and 6 and section 5
        (
            "sapo",
            {"advantage": "zscore", "loss": "sapo", "reduction": "seq_mean"}
            | {"tau_pos": 1.0, "tau_neg": 1.05},
        ),
        # 2503.14476, sections 3.1 to 3.4 and 4.1
        (
            "dapo",
            {"advantage": "zscore", "loss": "grpo", "reduction": "token_mean"}
            | {"clip_low": 0.2, "clip_high": 0.28, "dynamic_sampling": True}
            | {"overlong_penalty": "soft", "overlong_cache": 4096},
        ),
    ],
)
def test_a_recipe_turns_on_what_its_paper_has_and_nothing_else(algorithm, turned_on):
    config = resolve(online(algorithm=algorithm, max_completion_length=20480))
    assert {name: getattr(config, name) for name in DECIDED} == WITHOUT | turned_on


def test_without_an_algorithm_groups_are_compared_by_percentile():
    assert resolve(online()) == resolve(online(algorithm="percentile"))
    assert resolve(online()).advantage == "percentile"


def test_a_field_of_a_preset_can_be_set_by_itself():
    config = resolve(online(algorithm="gspo", advantage="rloo", clip_high=0.1))
    assert (config.advantage, config.clip_low, config.clip_high) == ("rloo", 3e-4, 0.1)


def test_the_options_of_a_preset_s_advantage_leave_with_it():
    assert resolve(online(algorithm="pkpo")).advantage_options == {
        "k": 4,
        "baseline": "leave_one_out",
    }
    config = resolve(online(algorithm="pkpo", advantage_options={"k": 2}))
    assert config.advantage_options == {"k": 2, "baseline": "leave_one_out"}
    assert resolve(online(algorithm="pkpo", advantage="rloo")).advantage_options == {}


OTHER = {"divergence": "kl", "dual_clip": 4.0, "delta": 4.0, "label_smoothing": 0.25}


@pytest.mark.parametrize("algorithm", PRESETS)
def test_every_field_of_a_preset_can_be_set_in_the_file(run_file, algorithm):
    preset = PRESETS[algorithm]
    told = {name: OTHER.get(name, 0.75) for name in OPTIONS[preset.loss] if name != "delta"}
    told |= {"advantage": "normal", "beta": 0.5, "algorithm": algorithm}
    told |= {"reduction": "prompt_mean"} if preset.reduction else {}
    lines = [f"{name} = {json.dumps(value)}" for name, value in told.items()]
    head = 'model = "m"\nrollouts = "r.parquet"\n'
    text = head + "\n".join(lines) + '\n[advantage_options]\nscores = "blom"\n'
    config = resolve(load(run_file(text)))
    assert {name: getattr(config, name) for name in told} == told
    assert (config.loss, config.advantage_options) == (preset.loss, {"scores": "blom"})


def test_another_loss_brings_the_clip_of_its_ratio_level():
    config = resolve(online(algorithm="grpo", loss="gspo"))
    assert (config.clip_low, config.clip_high) == (3e-4, 4e-4)


def test_every_option_of_every_loss_is_a_field_and_an_argument_of_its_function():
    fields = {field.name for field in dataclasses.fields(Config)}
    for loss in get_args(Loss):
        arguments = inspect.signature(getattr(losses, f"{loss}_loss")).parameters
        own = {name for name in arguments if arguments[name].kind is inspect.Parameter.KEYWORD_ONLY}
        assert own - {"lengths", "n_groups", "beta", "metrics"} == set(OPTIONS[loss])
        assert set(OPTIONS[loss]) <= fields
        for name, default in OPTIONS[loss].items():
            assert arguments[name].default == default


def test_losses_that_compare_groups_take_the_mean_over_groups_and_a_scale():
    config = resolve(online(algorithm="listwise"))
    assert (config.loss, config.reduction, config.beta, config.q) == (
        "top_fraction",
        None,
        0.1,
        0.2,
    )
    assert resolve(online(algorithm="gspo")).beta == 0
    assert resolve(online(algorithm="dpo", loss="gspo")).reduction == "seq_mean"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"algorithm": "gspo", "tau_pos": 1.0}, "tau_pos = 1.0: no option of the loss 'gspo'"),
        ({"algorithm": "cispo", "clip_high": 0.2}, "its options: w_min, w_max"),
        ({"algorithm": "cispo", "w_min": 6.0}, "w_min = 6.0: must not be above w_max"),
        ({"algorithm": "grpo", "delta": 1.1}, r"delta = 1.1: must be above 1 \+ clip_high"),
        ({"algorithm": "grpo", "delta": 3.0, "dual_clip": 3.0}, "the same bound"),
        ({"algorithm": "dpo", "reduction": "seq_mean"}, "reduction = 'seq_mean': .*over groups"),
        ({"algorithm": "dpo", "beta": 0.0}, "beta = 0.0: .* above 0"),
        (
            {"algorithm": "dpo", "off_policy_mask_threshold": 0.5},
            "off_policy_mask_threshold = 0.5: .*leave it out",
        ),
        ({"algorithm": "pkpo", "num_generations": 4}, "draws of 4 give no signal in a group of"),
        ({"algorithm": "gspo", "correction": "token_mask"}, "use a correction of sequences"),
        ({"correction": "seq_mask", "old_logprobs": "sampler"}, "a pass of the training engine"),
    ],
)
def test_what_a_loss_cannot_use_is_refused_before_anything_is_sampled(fields, message):
    with pytest.raises(ConfigError, match=message):
        resolve(online(**fields))


@pytest.mark.parametrize("algorithm", PRESETS)
def test_a_resolved_config_resolves_to_itself(algorithm):
    config = resolve(offline(algorithm=algorithm))
    assert resolve(config) == config


@pytest.mark.parametrize(
    "fields", [{"advantage": "zscor"}, {"advantage_options": {"scael": "none"}}]
)
def test_an_advantage_or_option_that_is_not_known_is_named_before_anything_is_sampled(fields):
    with pytest.raises(ConfigError, match=r"advantage = .*(zscor|scael)"):
        resolve(online(**fields))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"reward_weights": (1.0, 2.0)}, "give 1, one for each of reward"),
        ({"reward_column": ()}, "reward_column is empty; name at least one"),
        ({"reward_column": ("a", "b", "a")}, "reward_column has two named a; .*rename one"),
        ({"advantage_options": {"weights": [1.0]}}, "rewards have theirs in reward_weights"),
    ],
)
def test_rewards_that_cannot_be_weighed_or_told_apart_are_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        resolve(Config(model="m", rollouts="r.parquet", **fields))


@pytest.mark.parametrize("stop", ["", ("a", ""), (3,), [None]])
def test_a_stop_string_that_no_text_can_hold_is_refused(stop):
    with pytest.raises(
        ConfigError, match=r"stop = .*must be a text or a list of texts, none empty"
    ):
        online(stop=stop)


@pytest.mark.parametrize("fields", [{}, {"prompts": "p", "reward": "r:f", "rollouts": "x"}])
def test_a_run_is_online_or_offline_and_never_both(fields):
    with pytest.raises(ConfigError, match="either `prompts`"):
        resolve(Config(model="m", **fields))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_generations", 1),
        ("temperature", 0.0),
        ("top_p", 1.5),
        ("learning_rate", float("nan")),
        ("clip_low", -0.1),
        ("max_steps", 0),
        ("reward_weights", (1.0, float("nan"))),
    ],
)
def test_a_value_out_of_range_is_named_with_its_rule(field, value):
    with pytest.raises(ConfigError, match=rf"{field} = .*must be"):
        online(**{field: value})


def test_an_unknown_key_names_the_file_the_key_and_the_nearest_right_one(run_file):
    path = run_file('model = "m"\nlearning_rates = 1e-5\n')
    with pytest.raises(
        ConfigError, match=r"run\.toml: unknown key `learning_rates`.*`learning_rate`"
    ):
        load(path)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('seed = "3"', "an integer"),
        ("seed = 3.5", "an integer"),
        ("seed = true", "an integer"),
        ("shuffle_dataset = 1", "true or false"),
        ('learning_rate = "1e-5"', "a number"),
        ('loss = "gspso"', "one of 'gspo', 'gspo_token', 'grpo'"),
        ("by = [1, 2]", "a string or a list of strings"),
        ("reward = [3]", "a string or a list of strings"),
        ('reward_weights = [1, "a"]', "a list of numbers"),
        ("reward_weights = [true]", "a list of numbers"),
        ("reward_weights = 2.0", "a list of numbers"),
        ("advantage_options = 3", "a table"),
    ],
)
def test_a_value_of_another_type_is_named_with_what_was_expected(run_file, line, expected):
    path = run_file(f'model = "m"\n{line}\n')
    with pytest.raises(ConfigError, match=rf"run\.toml: {line.split()[0]} = .*expected {expected}"):
        load(path)


def test_a_file_that_is_absent_or_broken_is_named(run_file, tmp_path):
    with pytest.raises(ConfigError, match=r"none\.toml: No such file"):
        load(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match=r"run\.toml: not TOML: .*line 1"):
        load(run_file("model = \n"))
    with pytest.raises(ConfigError, match="`model` is missing"):
        load(run_file("seed = 1\n"))


def test_paths_are_taken_from_the_folder_of_the_file(run_file, tmp_path):
    (tmp_path / "tiny").mkdir()
    text = 'model = "tiny"\nprompts = "data/p.jsonl"\nreward = "r.py:score"\noutput_dir = "/abs"\n'
    config = load(run_file(text))
    assert config.model == str(tmp_path / "tiny")
    assert config.prompts == str(tmp_path / "data/p.jsonl")
    assert config.reward == f"{tmp_path / 'r.py'}:score"
    assert config.output_dir == "/abs"


def test_several_rewards_and_their_weights_are_lists_in_the_file_and_on_the_command_line(
    run_file, tmp_path
):
    text = 'model = "m"\nreward = ["a/r.py:right", "own.code:short"]\nreward_weights = [1, 0.5]\n'
    config = load(run_file(text))
    assert config.reward == (f"{tmp_path / 'a/r.py'}:right", "own.code:short")
    assert config.reward_weights == (1.0, 0.5)
    config = load(run_file(text), ["reward=['r.py:f', 'g:h']", "reward_weights=[2, -1]"])
    assert (config.reward, config.reward_weights) == (("r.py:f", "g:h"), (2.0, -1.0))
    config = load(run_file(text), ["reward_column=['right', 'short']"])
    assert config.reward_column == ("right", "short")


def test_a_list_in_python_is_the_tuple_that_a_checkpoint_has():
    fields = {"reward": ["r:f", "r:g"], "reward_weights": [1.0, 2.0]}
    config = Config(model="m", prompts="p", **fields)
    assert config == Config(model="m", prompts="p", **{k: tuple(v) for k, v in fields.items()})
    assert from_dict(json.loads(json.dumps(dataclasses.asdict(config))), "state.json") == config


def test_a_hub_name_and_an_importable_reward_are_left_as_they_are(run_file):
    config = load(run_file('model = "org/tiny"\nreward = "rewards.code:score"\n'))
    assert (config.model, config.reward) == ("org/tiny", "rewards.code:score")


def test_set_replaces_a_key_and_is_checked_like_one(run_file):
    path = run_file('model = "m"\nseed = 1\n')
    config = load(path, ["seed=9", "algorithm=dapo", "by=['a', 'b']", "prompts=p.jsonl"])
    assert (config.seed, config.algorithm, config.by) == (9, "dapo", ("a", "b"))
    assert config.prompts == "p.jsonl"
    with pytest.raises(ConfigError, match="--set: unknown key `sed`; did you mean `seed`"):
        load(path, ["sed=9"])
    with pytest.raises(ConfigError, match=r"--set: top_p = 2\.0: must be"):
        load(path, ["top_p=2.0"])
    with pytest.raises(ConfigError, match="write key=value"):
        load(path, ["seed"])


def test_a_config_comes_back_equal_from_json():
    config = resolve(online(by=("a", "b"), advantage_options={"scale": "none"}))
    assert from_dict(json.loads(json.dumps(dataclasses.asdict(config))), "state.json") == config


@pytest.mark.parametrize("field", ["model", "prompts", "rollouts", "eval_prompts", "output_dir"])
@pytest.mark.parametrize("thing", [object(), 7, Path("a"), ["a", 7], {"prompt": ["a"]}])
def test_a_thing_in_place_of_its_name_is_refused_for_what_it_is(field, thing):
    fields = {"model": "m", "prompts": "p", field: thing}
    if field == "rollouts":
        del fields["prompts"]
    kind = type(thing[1] if isinstance(thing, list) else thing).__qualname__
    with pytest.raises(ConfigError, match=rf"{field} is a .*{kind}; .*give the path"):
        resolve(Config(**fields))
