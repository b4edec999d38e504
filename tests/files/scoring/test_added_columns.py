"""What is written beside the columns of the input: with an ending, of several estimators, less."""

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from numpy.testing import assert_array_equal

import gspo_rs as gs
from fixtures.commands import call
from fixtures.formats import write
from gspo_rs.files.scoring import options

RNG = np.random.default_rng(0)
FRAME = pl.DataFrame(
    {
        "id": RNG.integers(0, 30, 200),
        "prompt": [f"prompt {i}" for i in range(200)],
        "reward": RNG.integers(0, 5, 200) / 4,
        "Größe": [f"größe {i}" for i in range(200)],
    }
)
GROUPS = gs.Groups(FRAME["id"].to_numpy())
ADDED = ["rank", "percentile", "advantage", "group_size", "group_mean", "group_std"]
SEVERAL = ["percentile", "rloo", "zscore", "batch_std"]


def scored(tmp_path, suffix=".parquet", source=FRAME, name="out", **asked):
    path = write(source, tmp_path / "in" / f"rows{suffix}")
    gs.score(path, tmp_path / name, by="id", **asked)
    return gs.scan(tmp_path / name).collect()


@pytest.mark.parametrize("keep", ["all", "informative,top:0.5"])
@pytest.mark.parametrize("layout", ["wide", "narrow"])
@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_each_of_several_estimators_gives_what_it_gives_alone(tmp_path, suffix, layout, keep):
    asked = {"layout": layout, "keep": keep}
    together = scored(tmp_path, suffix, name="all", estimator=SEVERAL, **asked)
    advantages = [f"advantage_{name}" for name in SEVERAL]
    assert together.columns == [*FRAME.columns, *ADDED[:2], *advantages, *ADDED[3:]]
    for name in SEVERAL:
        alone = scored(tmp_path, suffix, name=name, estimator=name, **asked)
        same = together.rename({f"advantage_{name}": "advantage"})
        assert same.select(alone.columns).equals(alone)
        if keep == "all":
            expected = gs.advantage(FRAME["reward"].to_numpy(), GROUPS, name)
            assert_array_equal(alone["advantage"], expected)


def test_several_estimators_through_the_disk_give_the_same(tmp_path, monkeypatch):
    expected = scored(tmp_path, name="memory", estimator=SEVERAL[:3])
    monkeypatch.setattr(options, "BUFFERS", options.LEAST - (4 << 10))
    report = gs.score(
        FRAME, tmp_path / "out", by="id", estimator=SEVERAL[:3], memory_limit=options.LEAST
    )
    assert report.spilled
    assert gs.scan(tmp_path / "out").collect().equals(expected)


def test_an_option_goes_to_the_estimators_that_have_it(tmp_path):
    found = scored(tmp_path, estimator=["zscore", "rloo"], eps=0.5)
    expected = gs.advantage(FRAME["reward"].to_numpy(), GROUPS, "zscore", eps=0.5)
    assert_array_equal(found["advantage_zscore"], expected)
    with pytest.raises(TypeError, match="none of zscore, rloo has an option 'tau'"):
        scored(tmp_path, name="no", estimator=["zscore", "rloo"], tau=1.0)
    with pytest.raises(ValueError, match="name each estimator once"):
        scored(tmp_path, name="no", estimator=["rloo", "rloo"])


@pytest.mark.parametrize("layout", ["wide", "narrow"])
@pytest.mark.parametrize("keep", ["all", "informative"])
def test_a_file_is_scored_twice_with_an_ending(tmp_path, layout, keep):
    scored(tmp_path, estimator="rloo")
    twice = {"by": "id", "estimator": "zscore", "layout": layout, "keep": keep}
    with pytest.raises(ValueError, match=r"a column 'rank' already.*--drop.*--suffix"):
        gs.score(tmp_path / "out", tmp_path / "twice", **twice)
    gs.score(tmp_path / "out", tmp_path / "twice", suffix="_b", **twice)
    found = gs.scan(tmp_path / "twice").collect()
    assert found.columns == [*FRAME.columns, *ADDED, *(f"{name}_b" for name in ADDED)]
    second = scored(tmp_path, name="other", estimator="zscore", keep=keep)
    kept = found.select(*FRAME.columns, *(pl.col(f"{name}_b").alias(name) for name in ADDED))
    assert kept.equals(second)


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
@pytest.mark.parametrize("keep", ["all", "informative"])
def test_dropped_columns_are_left_out_and_nothing_else_changes(tmp_path, suffix, keep):
    whole = scored(tmp_path, suffix, name="whole", keep=keep)
    for drop in (["Größe"], ["prompt", "Größe"], ["id", "reward"], FRAME.columns):
        found = scored(tmp_path, suffix, name="-".join(drop), drop=drop, keep=keep)
        assert found.equals(whole.drop(drop))
    file = tmp_path / "Größe" / "rows.parquet"
    assert pq.read_schema(file).names == [n for n in whole.columns if n != "Größe"]


def test_the_bytes_of_the_columns_that_stay_are_copied(tmp_path):
    scored(tmp_path, drop=["prompt"])
    given = pq.ParquetFile(tmp_path / "in" / "rows.parquet").metadata.row_group(0)
    found = pq.ParquetFile(tmp_path / "out" / "rows.parquet").metadata.row_group(0)
    before, after = given.column(3), found.column(2)
    assert before.path_in_schema == after.path_in_schema == "Größe"
    bytes_of = [
        (tmp_path / name / "rows.parquet").read_bytes()[
            column.data_page_offset : column.data_page_offset + column.total_compressed_size
        ]
        for name, column in (("in", before), ("out", after))
    ]
    assert bytes_of[0] == bytes_of[1]


def test_a_column_that_scoring_adds_may_be_dropped_of_the_input(tmp_path):
    taken = FRAME.with_columns(rank=pl.lit("third"), advantage=pl.lit(7.0))
    expected = scored(tmp_path, name="expected")
    for keep in ("all", "reward:0.."):
        found = scored(tmp_path, source=taken, name=keep, drop=["rank", "advantage"], keep=keep)
        assert found.equals(expected)


def test_a_wrong_column_to_drop_is_named_with_the_nearest(tmp_path):
    with pytest.raises(ValueError, match=r"no column 'promt' to drop in .*did you mean 'prompt'"):
        scored(tmp_path, drop=["promt"])
    with pytest.raises(ValueError, match="a narrow output has no columns that could be left out"):
        scored(tmp_path, drop=["prompt"], layout="narrow")
    write(FRAME, tmp_path / "hive" / "model=a" / "rows.parquet")
    with pytest.raises(ValueError, match="'model' is in the names of folders"):
        gs.score(tmp_path / "hive", tmp_path / "none", by="id", drop=["model"])
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("other", [{"suffix": "_b"}, {"drop": ["prompt"]}, {"estimator": SEVERAL}])
def test_other_columns_are_another_output(tmp_path, other):
    scored(tmp_path)
    path = tmp_path / "in" / "rows.parquet"
    with pytest.raises(FileExistsError, match="other options"):
        gs.score(path, tmp_path / "out", by="id", **other)
    gs.score(path, tmp_path / "again", by="id", **other)
    assert gs.score(path, tmp_path / "again", by="id", **other).skipped == 1


def test_the_command_takes_them_joined_by_commas_or_repeated(tmp_path):
    path = write(FRAME, tmp_path / "rows.parquet")
    asked = ["score", path, "--by", "id", "--drop", "prompt,Größe", "--suffix", "_b"]
    assert call(*asked, "-o", tmp_path / "one", "--estimator", "rloo,mean") == 0
    assert call(*asked, "-o", tmp_path / "two", "--estimator", "rloo", "--estimator", "mean") == 0
    one, two = (pl.read_parquet(tmp_path / name / "rows.parquet") for name in ("one", "two"))
    assert one.equals(two)
    assert one.columns[:6] == [
        "id",
        "reward",
        "rank_b",
        "percentile_b",
        "advantage_rloo_b",
        "advantage_mean_b",
    ]
