"""The best of each group: good enough, the better first, and told where they are the worst."""

from fractions import Fraction

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.commands import call
from fixtures.formats import json_lines
from gspo_rs.files.best import best
from gspo_rs.files.filters import filter_rows, parse
from gspo_rs.files.pairs import pairs
from gspo_rs.files.selection import read_selection, select
from gspo_rs.files.verl import verl

FRAME = pl.DataFrame(
    {
        "id": ["a", "b", "a", "c", "b", "a", "c", "d", "d"],
        "reward": [0.0, 0.0, 0.5, 1.0, 0.0, 1.0, 1.0, None, 0.75],
        "prompt": ["p" + key for key in "abacbacdd"],
        "completion": [f"text {row}" for row in range(9)],
    }
)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "rows.parquet"
    FRAME.write_parquet(path)
    return path


def test_no_wrong_answer_is_written_where_a_rule_asks_for_the_rows_own_reward(file, tmp_path):
    target = tmp_path / "sft.jsonl"
    written = best(file, target, by="id", n=2, keep="reward:1..")
    assert [row["reward"] for row in json_lines(target)] == [1.0, 1.0, 1.0]
    assert (written.lowest, written.alike) == (2, 2)
    assert written.dropped == {"reward:1..": 6, "best:2": 0}


def test_the_better_one_comes_first_in_each_group(file, tmp_path):
    target = tmp_path / "sft.jsonl"
    written = best(file, target, by="id", n=3)
    found = [(row["prompt"], row["completion"], row["reward"]) for row in json_lines(target)]
    assert found == [
        ("pa", "text 5", 1.0),
        ("pa", "text 2", 0.5),
        ("pa", "text 0", 0.0),
        ("pb", "text 1", 0.0),
        ("pb", "text 4", 0.0),
        ("pc", "text 3", 1.0),
        ("pc", "text 6", 1.0),
        ("pd", "text 8", 0.75),
    ]
    # Row 0 of a, both of b and c, and the only one of d that has a reward.
    assert (written.lowest, written.alike) == (6, 5)


def test_how_many_of_the_chosen_are_the_worst_of_their_group_is_told(file, tmp_path, capsys):
    assert call("best", file, "-o", tmp_path / "a.jsonl", "--by", "id", "--n", "1") == 0
    out, told = capsys.readouterr()
    assert "4 rows of 4 groups" in out
    assert "3 of 4 rows have the lowest reward of their group, 3 of these in groups" in told
    assert "--keep reward:1.." in told
    words = ["--by", "id", "--keep", "informative"]
    assert call("best", file, "-o", tmp_path / "b.jsonl", *words) == 0
    assert "lowest" not in capsys.readouterr().err


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.sampled_from([0.0, 0.5, 1.0, 2.0, None])),
        min_size=1,
        max_size=30,
    ),
    st.integers(1, 4),
)
def test_the_best_are_those_that_sorting_each_group_by_hand_gives(tmp_path_factory, rows, n):
    frame = pl.DataFrame(
        {
            "id": [key for key, _ in rows],
            "reward": pl.Series([reward for _, reward in rows], dtype=pl.Float64),
            "prompt": "p",
            "completion": [str(row) for row in range(len(rows))],
        }
    )
    groups = {}
    for row, (key, reward) in enumerate(rows):
        if reward is not None:
            groups.setdefault(key, []).append((-reward, row))
    chosen = [sorted(group)[:n] for group in groups.values()]
    chosen.sort(key=lambda group: min(row for _, row in group))
    target = tmp_path_factory.mktemp("best") / "out.parquet"
    written = best(frame, target, by="id", n=n, allow_empty=True)
    found = pl.read_parquet(target)["completion"].to_list()
    assert found == [str(row) for group in chosen for _, row in group]
    worst = sum(value == max(groups[rows[row][0]])[0] for group in chosen for value, row in group)
    assert written.lowest == worst


@pytest.mark.parametrize("threshold", [0.75, 1.0, 0.1, 2.5])
def test_what_is_right_for_a_pass_rate_is_an_option_of_every_command(tmp_path, file, threshold):
    rows = FRAME.with_row_index("row").drop_nulls("reward").rows(named=True)
    groups = {key: [r["reward"] for r in rows if r["id"] == key] for key in "abcd"}
    share = {k: Fraction(sum(r >= threshold for r in g), len(g)) for k, g in groups.items()}
    fit = {key for key, part in share.items() if Fraction(1, 3) <= part <= Fraction(9, 10)}
    keep = "pass-rate:0.3333..0.9"
    mask = filter_rows(FRAME["reward"].to_numpy(), FRAME["id"], parse(keep, threshold)).mask
    assert set(FRAME["id"].filter(pl.Series(mask))) == fit
    select(file, tmp_path / "s.parquet", by="id", keep=keep, threshold=threshold)
    assert read_selection(tmp_path / "s.parquet").rows.tolist() == np.flatnonzero(mask).tolist()
    options = {"by": "id", "keep": keep, "threshold": threshold, "allow_empty": True}
    assert best(file, tmp_path / "b.jsonl", n=1, **options).groups == len(fit)
    assert pairs(file, tmp_path / "p.jsonl", **options).groups == len(fit & {"a"})
    truth = {"ground_truth": "prompt", "data_source": "d"}
    assert verl(file, tmp_path / "v.parquet", **truth, **options).groups == len(fit)
    words = ["--by", "id", "--keep", keep, "--threshold", threshold, "--allow-empty"]
    assert call("best", file, "-o", tmp_path / "c.jsonl", *words) == 0
    assert len(json_lines(tmp_path / "c.jsonl")) == len(fit)
    assert call("score", file, "-o", tmp_path / "scored", *words) == 0
    assert pl.read_parquet(tmp_path / "scored/*.parquet").height == mask.sum()


def test_a_threshold_that_no_rule_reads_is_refused(file, tmp_path):
    with pytest.raises(ValueError, match=r"threshold=1.0: only pass-rate reads it.*reward:1.0\.\."):
        best(file, tmp_path / "a.jsonl", by="id", threshold=1.0)
    with pytest.raises(ValueError, match="threshold: 'nan' is not a finite number"):
        parse("pass-rate:0.1..", float("nan"))


def test_the_threshold_of_an_estimator_is_an_option_as_before(file, tmp_path):
    words = ["--by", "id", "--estimator", "pass_at_k", "--option", "k=1"]
    found = []
    for name, how in (("a", ["--option", "threshold=0.75"]), ("b", ["--threshold", 0.75])):
        assert call("score", file, "-o", tmp_path / name, *words, *how) == 0
        found.append(pl.read_parquet(tmp_path / name / "*.parquet"))
    assert found[0].equals(found[1])
    assert found[0]["advantage"].abs().max() > 0


def test_a_rule_on_the_own_reward_leaves_out_what_has_none():
    values = [float("nan"), 0.25, 1.0, -1.0]
    for text, expected in (("reward:..1", [1, 2, 3]), ("reward:0.25..", [1, 2])):
        assert np.flatnonzero(filter_rows(values, [1] * 4, parse(text)).mask).tolist() == expected
    with pytest.raises(ValueError, match=r"write it as reward:1\.\."):
        parse("reward:1")
