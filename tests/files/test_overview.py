"""Numbers that several tools print: the same in all of them, and what Polars makes of the rows."""

import json
import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gspo_rs as gs
from fixtures.commands import call
from gspo_rs.data.source import locate
from gspo_rs.files.summary import QUANTILES, summarize
from gspo_rs.groups.overview import right_from, spread_of, ties_of
from gspo_rs.report import facts, load

FILES = ["rg_easy", "rg_policy3", "wmt21_ted_zhen_mqm", "tot_game24_200", "wildbench_judge10"]


def facts_of(source, by, threshold=None):
    located = locate(source)
    given = dict.fromkeys(("prompt", "completion", "model"))
    found = load.read(located, load.choose(located, by=by, reward="reward", given=given))
    return facts.find_facts(found, gs.stats(found.reward, found.groups), threshold)


def by_polars(frame, by):
    """Every number by one expression over the scored rows, without a group's statistics."""
    rows = frame.select(pl.col(by).alias("id"), pl.col("reward").cast(pl.Float64)).with_columns(
        pl.col("reward").fill_nan(None) + 0.0
    )
    scored = rows.drop_nulls("reward")
    mean = pl.col("reward").mean()
    pairs = scored.join(scored, on="id").group_by("id").len()["len"].sum() - scored.height
    tied = scored.join(scored, on=["id", "reward"]).height - scored.height
    return {
        "rows": rows.height,
        "unscorable": rows.height - scored.height,
        "groups": rows["id"].n_unique(),
        "mean": scored["reward"].mean(),
        "within": scored.select(((pl.col("reward") - mean.over("id")) ** 2).mean()).item(),
        "between": scored.select(((mean.over("id") - mean) ** 2).mean()).item(),
        "variance": scored["reward"].var(ddof=0),
        "pairs": pairs // 2,
        "tied": tied // 2,
        "informative": rows.group_by("id")
        .agg(pl.col("reward").max() > pl.col("reward").min())["reward"]
        .sum(),
        "quartiles": [scored["reward"].quantile(q, "linear") for q in (0, 0.25, 0.5, 0.75, 1)],
    }


def assert_alike(source, frame, by):
    expected = by_polars(frame, by)
    (summary,) = summarize(source, by=by)
    page = facts_of(source, by)
    near = {"rel": 1e-12, "abs": 1e-14}
    assert summary.rows == page.n_rollouts == expected["rows"]
    assert summary.unscorable == page.n_unscorable == expected["unscorable"]
    assert summary.groups == page.n_groups == expected["groups"]
    assert summary.informative == page.n_informative / page.n_groups
    assert page.n_informative == expected["informative"]
    assert summary.mean == page.mean == pytest.approx(expected["mean"], **near)
    assert summary.within == page.spread.within == pytest.approx(expected["within"], **near)
    assert summary.between == page.spread.between == pytest.approx(expected["between"], **near)
    assert summary.within + summary.between == pytest.approx(expected["variance"], **near)
    assert (page.n_pairs, page.tied_pairs) == (expected["pairs"], expected["tied"])
    if page.n_pairs:
        assert summary.ties == page.tied_pairs / page.n_pairs
    else:
        assert summary.ties is None
    quantiles = dict(zip(QUANTILES, summary.quantiles, strict=True))
    assert page.quantiles == tuple(quantiles[q] for q in (0, 0.25, 0.5, 0.75, 1))
    assert page.quantiles == pytest.approx(expected["quartiles"], **near)
    assert summary.threshold == page.threshold


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_stats_and_report_say_the_same_of_real_files_and_so_does_polars(shared, file):
    source = shared / f"data/{file}.parquet"
    assert_alike(source, pl.read_parquet(source, columns=["prompt_id", "reward"]), "prompt_id")


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.sampled_from([0.0, -0.0, 0.1, 0.7, 3.0, None])), min_size=1
    )
)
def test_stats_and_report_say_the_same_of_any_rows(rows):
    # At least one reward, without which there is no report.
    frame = pl.DataFrame(
        [*rows, (0, 1.0)], schema={"id": pl.Int64, "reward": pl.Float64}, orient="row"
    )
    assert_alike(frame, frame, "id")


def test_within_and_between_add_up_where_groups_have_other_sizes():
    rewards, ids = [0.0, 2.0, 4.0, 4.0, 4.0, 9.0], list("aabbbc")
    found = gs.stats(rewards, ids)
    spread = spread_of(found)
    assert spread.total == pytest.approx(np.var(rewards), rel=1e-15)
    assert spread.within == pytest.approx(2 / 6)
    assert ties_of(np.array(rewards), found.groups).share == 3 / 4


@pytest.mark.parametrize(
    ("rewards", "threshold", "expected"),
    [
        ([0.0, 1.0, math.nan], None, 0.5),
        ([1.0], None, 0.5),
        ([0.0, 10.0], None, None),  # a judge's scores: all would be right
        ([-5.0, 0.0], None, None),  # penalties: none would be right
        ([math.nan], None, None),
        ([0.0, 10.0], 7.5, 7.5),
    ],
)
def test_nothing_is_right_or_wrong_of_scores_without_a_threshold(rewards, threshold, expected):
    assert right_from(np.array(rewards), threshold) == expected
    frame = pl.DataFrame({"id": [1] * len(rewards), "reward": rewards})
    (found,) = summarize(frame, by="id", threshold=threshold)
    assert found.threshold == expected
    if expected is None:
        assert found.pass_at_k == {}
    else:
        assert found.pass_at_k[1] == np.mean(np.array(rewards)[~np.isnan(rewards)] >= expected)


def run(capsys, *words):
    assert call(*words) == 0
    return capsys.readouterr().out


def test_pass_at_k_of_a_judges_scores_is_printed_only_with_a_threshold(tmp_path, capsys):
    path = tmp_path / "judge.parquet"
    pl.DataFrame({"id": [1, 1, 2, 2], "reward": [7.0, 3.0, 9.0, 1.0]}).write_parquet(path)
    told = run(capsys, "stats", path, "--by", "id")
    assert "needs --threshold" in told
    assert "pass@1" not in told
    told = run(capsys, "stats", path, "--by", "id", "--threshold", "5")
    assert "pass@1, reward ≥ 5" in told
    assert "0.500" in told


def test_null_and_the_texts_none_and_null_and_an_empty_one_are_told_apart(tmp_path, capsys):
    values = [None, "None", "null", "", '"null"', "a", " a"]
    rewards = [step / 10 for step in range(len(values))]
    path = tmp_path / "rows.parquet"
    pl.DataFrame({"id": 1, "reward": rewards, "model": values}).write_parquet(path)
    found = summarize(path, by="id", per="model")
    assert {summary.part: summary.mean for summary in found[1:]} == dict(
        zip(values, rewards, strict=True)
    )
    assert [found[0].per, found[0].part] == [None, None]
    assert {summary.per for summary in found[1:]} == {"model"}
    said = json.loads(run(capsys, "stats", path, "--by", "id", "--per", "model", "--json"))
    assert (said["whole"]["per"], said["whole"]["part"]) == (None, None)
    assert {(part["per"], part["part"]) for part in said["parts"]} == {
        ("model", value) for value in values
    }
    table = run(capsys, "stats", path, "--by", "id", "--per", "model").split("model")[-1]
    shown = {line.rsplit(" 1 ", 2)[0].strip() for line in table.splitlines() if " 1 " in line}
    assert len(shown) == len(values)
    assert {"null", "None", '"null"', '""'} <= shown
    located = locate(path)
    given = {"prompt": None, "completion": None, "model": "model"}
    read = load.read(located, load.choose(located, by="id", reward="reward", given=given))
    assert len(set(read.models)) == len(values)
    assert {"null", "None", '"null"', '""'} <= set(read.models)
