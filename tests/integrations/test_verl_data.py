"""Prompts for verl's trainers, out of scored files, by verl's own functions."""

import json
import os
from importlib.util import find_spec
from pathlib import Path

import polars as pl
import pytest
import torch

pytest.importorskip("verl", reason="verl is not installed")

import datasets
from omegaconf import OmegaConf
from torchdata.stateful_dataloader import StatefulDataLoader
from transformers import AutoTokenizer
from verl.protocol import DataProto
from verl.trainer.ppo.utils import create_rl_dataset, create_rl_sampler
from verl.utils.dataset.rl_dataset import RLHFDataset, collate_fn

import gspo_rs as gs
from gspo_rs.files.selection import select
from gspo_rs.files.verl import verl
from gspo_rs.integrations.verl_data import PromptDataset

pytestmark = pytest.mark.slow

PACKAGE = "pkg://gspo_rs.integrations.verl_data"
DEFAULTS = Path(find_spec("verl").origin).parent / "trainer/config/data/legacy_data.yaml"
GROUPS = {"by": "prompt_id", "ground_truth": "expected_answer", "data_source": "openai/gsm8k"}


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    """`datasets` puts a copy in the place of `os.environ` when it filters in a process."""
    monkeypatch.setattr(os, "environ", os.environ)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")


@pytest.fixture(scope="module")
def tokenizer(stories):
    tokenizer = AutoTokenizer.from_pretrained(stories)
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    return tokenizer


@pytest.fixture(scope="module")
def solutions(shared, tmp_path_factory):
    """Four answers to each of 300 questions of GSM8K, scattered over the file."""
    rows = pl.read_parquet(shared / "data/gsm8k_solutions4.parquet")
    rows = rows.filter(pl.col("prompt_id") < 300).sample(fraction=1.0, shuffle=True, seed=0)
    file = tmp_path_factory.mktemp("solutions") / "rows.parquet"
    rows.write_parquet(file, row_group_size=100)
    return file


def settings(folder, groups=GROUPS, path=PACKAGE, **changes):
    """verl's own defaults, with this data set in the place of its own."""
    changed = {
        "cache_dir": str(folder / "cache"),
        "tool_config_path": None,
        "max_prompt_length": 4096,
        "custom_cls": {"path": path, "name": "PromptDataset"},
        "gspo_rs": groups,
        **changes,
    }
    return OmegaConf.merge(OmegaConf.load(DEFAULTS), changed)


def made(source, config, tokenizer, **more):
    return create_rl_dataset(str(source), config, tokenizer, None, **more)


def verls(source, folder, tokenizer, groups=GROUPS, **changes):
    """What verl reads of the file that `gspo-rs verl` writes."""
    target = folder / "train.parquet"
    verl(source, target, **{"ability": "math", **groups})
    config = settings(folder, **changes)
    return RLHFDataset([str(target)], tokenizer, config)


def items(dataset):
    return [
        {**item, "dummy_tensor": item["dummy_tensor"].tolist()}
        for item in (dataset[number] for number in range(len(dataset)))
    ]


def packed(source, folder, kind):
    """The same rows as `gs.score` and `gspo-rs select` leave them."""
    if kind == "files":
        return source
    if kind == "selection":
        select(source, folder / "chosen.parquet", by="prompt_id", keep="informative")
        return folder / "chosen.parquet"
    gs.score(source, folder / kind, by="prompt_id", layout=kind)
    return folder / kind


@pytest.mark.parametrize("kind", ["files", "wide", "narrow", "selection"])
def test_an_item_is_what_verl_makes_of_the_prompts_written_to_a_file(
    solutions, tokenizer, tmp_path, kind
):
    groups = {**GROUPS, "ability": "math", "split": "train"}
    dataset = made(packed(solutions, tmp_path, kind), settings(tmp_path, groups), tokenizer)
    keep = "informative" if kind == "selection" else "all"
    expected = items(verls(solutions, tmp_path, tokenizer, {**GROUPS, "keep": keep}))
    assert type(dataset) is PromptDataset
    assert items(dataset) == expected
    assert len(expected) == (300 if keep == "all" else len(_mixed(solutions)))


def _mixed(source):
    rewards = pl.read_parquet(source).group_by("prompt_id").agg(pl.col("reward").n_unique())
    return rewards.filter(pl.col("reward") > 1)


def test_an_item_has_the_prompt_and_the_moments_of_its_group(solutions, tokenizer, tmp_path):
    dataset = made(solutions, settings(tmp_path, {**GROUPS, "keep": "informative"}), tokenizer)
    rows = pl.read_parquet(solutions)
    expected = rows.group_by("prompt_id", maintain_order=True).agg(
        pl.first("prompt", "expected_answer"), pl.mean("reward"), pl.len()
    )
    expected = expected.filter(pl.col("reward").is_between(0, 1, closed="none")).to_dicts()
    assert len(dataset) == len(expected) > 50
    for number, group in enumerate(expected):
        item = dataset[number]
        message = {"role": "user", "content": group["prompt"]}
        about = {"index": number, "group_size": group["len"], "group_mean": group["reward"]}
        assert item.pop("dummy_tensor").tolist() == [0]
        assert item == {
            "data_source": "openai/gsm8k",
            "prompt": [message],
            "raw_prompt": [message],
            "reward_model": {"style": "rule", "ground_truth": group["expected_answer"]},
            "extra_info": about,
            "index": number,
            "tools_kwargs": {},
            "interaction_kwargs": {},
        }


def test_the_class_is_found_by_the_path_of_its_file(solutions, tokenizer, tmp_path):
    path = find_spec("gspo_rs.integrations.verl_data").origin
    dataset = made(solutions, settings(tmp_path, path=path), tokenizer)
    assert len(dataset) == 300


@pytest.mark.parametrize("shuffle", [False, True])
def test_length_and_number_are_limited_as_verl_limits_them(solutions, tokenizer, tmp_path, shuffle):
    groups = {**GROUPS, "ability": "math", "split": "train"}
    limits = {"filter_overlong_prompts": True, "max_prompt_length": 130, "shuffle": shuffle}
    config = settings(tmp_path, groups, seed=3, **limits)
    verl(solutions, tmp_path / "train.parquet", ability="math", **GROUPS)
    theirs = RLHFDataset([str(tmp_path / "train.parquet")], tokenizer, config, max_samples=100)
    ours = made(solutions, config, tokenizer, max_samples=100)
    assert items(ours) == items(theirs)
    lengths = [len(tokenizer(item["prompt"][0]["content"])["input_ids"]) for item in items(ours)]
    assert 10 < len(lengths) < 100
    assert max(lengths) <= 131  # the template adds no `<s>`


@pytest.mark.parametrize("workers", [0, 2])
def test_verls_loader_gives_every_prompt_once_and_goes_on_where_it_stopped(
    solutions, tokenizer, tmp_path, workers
):
    config = settings(tmp_path, seed=5)

    def loader():
        dataset = made(solutions, config, tokenizer)
        sampler = create_rl_sampler(config, dataset)
        options = {"batch_size": 16, "num_workers": workers, "drop_last": True}
        return StatefulDataLoader(dataset, sampler=sampler, collate_fn=collate_fn, **options)

    def taken(batches):
        return [batch["index"].tolist() for batch in batches]

    whole = taken(loader())
    numbers = [index for batch in whole for index in batch]
    assert len(whole) == 18
    assert len(set(numbers)) == 288
    assert numbers != sorted(numbers)
    stopped = loader()
    batches = iter(stopped)
    first = taken(next(batches) for _ in range(7))
    state = stopped.state_dict()
    resumed = loader()
    resumed.load_state_dict(state)
    assert first + taken(resumed) == whole


def test_a_batch_goes_through_verls_protocol(solutions, tokenizer, tmp_path):
    dataset = made(solutions, settings(tmp_path), tokenizer)
    batch = DataProto.from_single_dict(collate_fn([dataset[number] for number in range(8)]))
    assert len(batch) == 8
    assert batch.batch["dummy_tensor"].dtype == torch.uint8
    truths = [model["ground_truth"] for model in batch.non_tensor_batch["reward_model"]]
    rows = pl.read_parquet(solutions).unique("prompt_id", keep="first", maintain_order=True)
    assert truths == rows["expected_answer"].head(8).to_list()


def test_columns_that_verl_has_already_are_served_as_they_are(tokenizer, tmp_path):
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]
    row = {
        "uid": 7,
        "question": messages,
        "data_source": "sums",
        "ability": "math",
        "reward_model": {"style": "model", "ground_truth": "2", "more": [1, 2]},
        "extra_info": {"index": 41, "need_tools_kwargs": True, "tools_kwargs": {"a": {"b": "c"}}},
    }
    rows = [{**row, "reward": 0.0}, {**row, "reward": 1.0}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = settings(tmp_path, {"by": ["uid"]}, prompt_key="question")
    (item,) = items(made(tmp_path / "rows.jsonl", config, tokenizer))
    for name in ("question", "data_source", "ability", "reward_model"):
        assert item[name] == row[name]
    assert item["raw_prompt"] == messages
    assert item["extra_info"] == {**row["extra_info"], "group_size": 2, "group_mean": 0.5}
    assert (item["index"], item["tools_kwargs"]) == (41, {"a": {"b": "c"}})


def test_validation_files_of_verls_own_are_read_as_verl_reads_them(solutions, tokenizer, tmp_path):
    expected = items(verls(solutions, tmp_path, tokenizer))
    found = made(tmp_path / "train.parquet", settings(tmp_path), tokenizer)
    assert items(found) == expected
    with pytest.raises(ValueError, match="has no column 'id'"):
        made(solutions, settings(tmp_path, {**GROUPS, "by": "id"}), tokenizer)


def test_the_disk_is_given_back_as_soon_as_the_prompts_are_mapped(solutions, tokenizer, tmp_path):
    config = settings(tmp_path, filter_overlong_prompts=True)
    dataset = made(solutions, config, tokenizer)
    assert list((tmp_path / "cache").iterdir()) == []
    assert len(items(dataset)) == 300
    dataset.resume_dataset_state()
    assert len(items(dataset)) == 300


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ({}, r"\+data\.gspo_rs\.by=prompt_id"),
        ({"by": "prompt_id", "rewards": "r"}, "unknown option data.gspo_rs.rewards; known: by,"),
        ({"by": "prompt_id"}, r"'reward_model'; name it with \+data\.gspo_rs\.ground_truth"),
        ({**GROUPS, "by": "model_answer"}, "is null at row"),
        ({**GROUPS, "by": "source"}, "of one group but differ in 'prompt'"),
    ],
)
def test_an_option_that_is_wrong_is_named(solutions, tokenizer, tmp_path, groups, words):
    with pytest.raises(ValueError, match=words):
        made(solutions, settings(tmp_path, groups), tokenizer)


def test_rows_with_images_and_two_scored_folders_are_refused(solutions, tokenizer, tmp_path):
    rows = pl.read_parquet(solutions).with_columns(images=pl.lit("a.png"))
    rows.write_parquet(tmp_path / "seen.parquet")
    with pytest.raises(ValueError, match="a column 'images'; this data set serves text alone"):
        made(tmp_path / "seen.parquet", settings(tmp_path), tokenizer)
    folder = packed(solutions, tmp_path, "wide")
    with pytest.raises(ValueError, match="give one scored folder alone"):
        create_rl_dataset([str(folder), str(folder)], settings(tmp_path), tokenizer, None)


def test_messages_of_json_lines_gain_no_keys_of_other_lines(tokenizer, tmp_path):
    asked = [
        [{"role": "user", "content": "1+1="}],
        [{"role": "user", "content": "2+2=", "name": "Ada"}, {"role": "tool", "content": None}],
        [{"role": "user", "content": "x" * 5000}],
    ]
    file = tmp_path / "rows.jsonl"
    rows = [
        {"id": i, "prompt": messages, "reward_model": {"ground_truth": "4", **more}, "reward": r}
        for i, (messages, more) in enumerate(zip(asked, [{}, {"style": "rule"}, {}], strict=True))
        for r in (0.0, 1.0)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    groups = {"by": "id", "data_source": "sums"}
    config = settings(tmp_path, groups, max_prompt_length=1000, filter_overlong_prompts=True)
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] or '' }}{% endfor %}"
    items = list(made(file, config, tokenizer))
    assert [item["raw_prompt"] for item in items] == asked[:2]
    assert [item["reward_model"] for item in items] == [
        {"ground_truth": "4"},
        {"ground_truth": "4", "style": "rule"},
    ]
    assert [item["extra_info"]["group_size"] for item in items] == [2, 2]
    loader = StatefulDataLoader(
        made(file, config, tokenizer), batch_size=2, num_workers=1, collate_fn=collate_fn
    )
    assert [list(batch["raw_prompt"]) for batch in loader] == [asked[:2]]
