"""Scoring rows that are sequences of one rollout: a reward counts once."""

import numpy as np
import polars as pl
import pytest

import gspo_rs as gs
from fixtures.commands import call


@pytest.fixture
def rows():
    """Scattered rows of rollouts that gave one to four each."""
    draw = np.random.default_rng(0)
    once = pl.DataFrame(
        {
            "prompt_id": draw.integers(0, 9, 60),
            "rollout": np.arange(60) % 7,
            "reward": np.where(draw.random(60) < 0.1, np.nan, draw.integers(0, 4, 60) / 2),
        }
    ).unique(["prompt_id", "rollout"], maintain_order=True)
    once = once.with_columns(pl.col("reward").fill_nan(None))
    many = once[np.repeat(np.arange(once.height), draw.integers(1, 5, once.height))]
    return once, many[draw.permutation(many.height)].with_columns(text=pl.lit("a"))


@pytest.mark.parametrize("layout", ["wide", "narrow"])
@pytest.mark.parametrize("estimator", ["percentile", "zscore", "reinforce_pp"])
def test_each_row_has_the_scores_of_its_rollout_among_rollouts(rows, layout, estimator, tmp_path):
    _, many = rows
    once = many.unique(["prompt_id", "rollout"], maintain_order=True)
    settings = {"by": "prompt_id", "estimator": estimator, "layout": layout}
    gs.score(once, tmp_path / "once", **settings)
    report = gs.score(many, tmp_path / "many", rollouts="rollout", **settings)
    names = ["rank", "percentile", "advantage", "group_size", "group_mean", "group_std"]
    expected = once.select("prompt_id", "rollout").hstack(_scores(tmp_path / "once").select(names))
    found = _scores(tmp_path / "many").select(names)
    wanted = many.join(expected, on=["prompt_id", "rollout"], how="left", maintain_order="left")
    assert found.equals(wanted.select(names))
    assert (report.rows, report.kept) == (many.height, many.height)
    assert found["advantage"].equals(
        pl.Series(
            "advantage",
            gs.advantage(many["reward"], many["prompt_id"], estimator, rollouts=many["rollout"]),
        )
    )


def _scores(folder):
    return pl.read_parquet(folder / "*.parquet")


def test_rows_of_one_rollout_may_lie_in_several_files(rows, tmp_path):
    _, many = rows
    (tmp_path / "in").mkdir()
    many[:40].write_parquet(tmp_path / "in" / "a.parquet")
    many[40:].write_parquet(tmp_path / "in" / "b.parquet")
    gs.score(many, tmp_path / "one", by="prompt_id", rollouts="rollout")
    command = ["score", tmp_path / "in", "-o", tmp_path / "two", "--by", "prompt_id"]
    assert call(*command, "--rollouts", "rollout") == 0
    assert _scores(tmp_path / "two").equals(_scores(tmp_path / "one"))


def test_two_rewards_of_one_rollout_are_refused_with_their_files_and_rows(tmp_path):
    first = pl.DataFrame({"prompt_id": [0, 0, 1], "rollout": ["x", "y", "x"], "reward": [0, 1, 1]})
    other = pl.DataFrame({"prompt_id": [0, 0], "rollout": ["z", "y"], "reward": [1, 0]})
    first.write_parquet(tmp_path / "a.parquet")
    other.write_parquet(tmp_path / "b.parquet")
    files = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    with pytest.raises(
        ValueError, match=r"row 1 of .*a\.parquet and row 1 of .*b\.parquet are sequences of one"
    ):
        gs.score(files, tmp_path / "out", by="prompt_id", rollouts="rollout")
    assert not (tmp_path / "out").exists()


def test_rollouts_of_rows_with_lists_are_those_of_their_members(tmp_path):
    frame = pl.DataFrame({"prompt": ["a"], "reward": [[1.0, 1.0, 0.0]], "rollout": [[4, 4, 5]]})
    gs.score(frame, tmp_path / "out", estimator="mean", rollouts="rollout")
    assert _scores(tmp_path / "out")["advantage"].to_list() == [0.5, 0.5, -0.5]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"rollouts": "roll"}, "no column 'roll'"),
        ({"keep": "informative"}, "keep is 'informative', but rows of one rollout stay together"),
        ({"null": True}, "column 'rollout' is null at row 0"),
    ],
)
def test_what_cannot_be_rollouts_is_refused(rows, tmp_path, change, problem):
    _, many = rows
    if change.pop("null", False):
        many = many.with_columns(pl.col("rollout").replace(int(many["rollout"][0]), None))
    with pytest.raises(ValueError, match=problem):
        gs.score(many, tmp_path / "out", **{"by": "prompt_id", "rollouts": "rollout", **change})


def test_a_rehearsal_counts_rollouts_as_the_run_does(rows, tmp_path):
    rows[1].write_parquet(tmp_path / "rows.parquet")
    source, settings = tmp_path / "rows.parquet", {"by": "prompt_id", "rollouts": "rollout"}
    plan = gs.score(source, tmp_path / "out", dry_run=True, **settings)
    done = gs.score(source, tmp_path / "out", **settings)
    assert (plan.groups, plan.uninformative) == (done.groups, done.uninformative)
    again = gs.score(source, tmp_path / "out", **settings)
    assert (again.rows, again.skipped) == (done.rows, 1)
    assert gs.scan(tmp_path / "out").collect().height == done.rows
    gs.verify(tmp_path / "out")
