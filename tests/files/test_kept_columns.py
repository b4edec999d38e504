"""The columns that chosen rows keep: the keys of their group, and what is asked for."""

import polars as pl
import pytest

import gspo_rs as gs
from fixtures.commands import call
from fixtures.formats import json_lines, write

FRAME = pl.DataFrame(
    {
        "step": [1, 1, 1, 2, 2, 1],
        "task": ["a", "b", "a", "a", "a", "b"],
        "prompt": ["pa", "pb", "pa", "pa", "pa", "pb"],
        "completion": ["x", "y", "z", "v", "w", "u"],
        "reward": [0.0, 1.0, 1.0, 0.5, None, 0.25],
        "seed": [10, 11, 12, 13, 14, 15],
        "info": [{"n": i, "of": ["k"] * i} for i in range(6)],
    }
)
KEYS = ["step", "task"]


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_the_best_rows_keep_their_keys_and_what_is_asked_for(tmp_path, suffix):
    path = write(FRAME, tmp_path / f"rows{suffix}")
    found = gs.best(path, by=KEYS, columns=["seed", "info"])
    best = FRAME.sort("reward", descending=True, nulls_last=True).group_by(KEYS).first()
    expected = best.select("prompt", "completion", "reward", *KEYS, "seed", "info")
    same = found.with_columns(pl.col("info")).sort("seed")
    assert same.select(pl.exclude("info")).equals(expected.drop("info").sort("seed"))
    gs.best(path, tmp_path / "out.jsonl", by=KEYS, columns=["info", "info.n"])
    infos = {line["info.n"]: line["info"] for line in json_lines(tmp_path / "out.jsonl")}
    assert infos == {i: FRAME["info"][i] for i in (1, 2, 3)}


def test_a_pair_has_its_keys_once_and_what_is_asked_for_of_both_rows(tmp_path):
    path = write(FRAME, tmp_path / "rows.parquet")
    found = gs.pairs(path, by=KEYS, columns=["seed", "info"])
    texts = ["prompt", "chosen", "rejected", "margin", "chosen_reward", "rejected_reward"]
    sides = ["chosen_seed", "rejected_seed", "chosen_info", "rejected_info"]
    assert found.columns == [*texts, *KEYS, *sides]
    row = dict(zip(FRAME["completion"], FRAME.to_dicts(), strict=True))
    assert found.height == 2
    for pair in found.to_dicts():
        chosen, rejected = row[pair["chosen"]], row[pair["rejected"]]
        assert [pair[key] for key in KEYS] == [chosen[key] for key in KEYS]
        assert (pair["chosen_seed"], pair["rejected_seed"]) == (chosen["seed"], rejected["seed"])
        assert (pair["chosen_info"], pair["rejected_info"]) == (chosen["info"], rejected["info"])


def test_a_key_that_is_written_anyway_is_written_once():
    assert gs.best(FRAME, by=["prompt"]).columns == ["prompt", "completion", "reward"]
    assert gs.pairs(FRAME, by="prompt").columns[-1] == "rejected_reward"


def test_rows_that_are_whole_groups_keep_what_is_asked_for():
    lists = FRAME.group_by(KEYS, maintain_order=True).agg("completion", "reward", "seed")
    found = gs.best(lists.with_columns(prompt="task"), columns=["seed", "step"])
    assert found.columns == ["prompt", "completion", "reward", "seed", "step"]
    assert found["seed"].to_list() == [12, 11, 13]


def test_a_column_that_is_not_there_or_written_anyway_is_refused():
    with pytest.raises(ValueError, match="no column 'sede'; did you mean 'seed'"):
        gs.best(FRAME, by=KEYS, columns=["sede"])
    with pytest.raises(ValueError, match="'reward' is the name of a column that is written anyway"):
        gs.best(FRAME, by=KEYS, columns=["reward"])
    with pytest.raises(ValueError, match="chosen_reward is written anyway; leave out 'reward'"):
        gs.pairs(FRAME, by=KEYS, columns=["reward"])


def test_the_commands_take_columns(tmp_path):
    path = write(FRAME.drop("info"), tmp_path / "rows.parquet")
    asked = [path, "--by", "step,task", "--columns", "seed,task"]
    assert call("best", *asked, "-o", tmp_path / "best.parquet") == 0
    assert pl.read_parquet(tmp_path / "best.parquet").columns[3:] == [*KEYS, "seed"]
    assert call("pairs", *asked, "-o", tmp_path / "pairs.parquet") == 0
    kept = pl.read_parquet(tmp_path / "pairs.parquet").columns[6:]
    assert kept == [*KEYS, "chosen_seed", "rejected_seed", "chosen_task", "rejected_task"]
