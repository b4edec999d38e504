"""Folders called key=value: text unless all are integers or dates, in every format and command."""

from datetime import date

import polars as pl
import pytest

import gspo_rs as gs
from fixtures.formats import WRITERS, write
from gspo_rs import data
from gspo_rs.data.group_index import index_groups
from gspo_rs.data.hive import partitions
from gspo_rs.data.source import locate
from gspo_rs.files import best, nested, selection, summary
from gspo_rs.files.pairs import pairs
from gspo_rs.files.scoring.read_back import verify


def folders(root, values, suffix=".parquet", key="id"):
    """Two rows for each value, with rewards that rise by a tenth from file to file."""
    for i, value in enumerate(values):
        rows = {"reward": [i / 10, 1 + i / 10], "prompt": ["p", "p"], "completion": ["a", "b"]}
        write(pl.DataFrame(rows), root / f"{key}={value}" / f"part{suffix}")
    return root


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["01", "1"], ["01", "1"]),
        (["7", "7b"], ["7", "7b"]),
        (["12e3", "12ab", "12000"], ["12e3", "12ab", "12000"]),
        (["1.0", "1"], ["1.0", "1"]),
        (["1", "+1", "-0"], ["1", "+1", "-0"]),
        (["7", "10", "-3", "0"], [7, 10, -3, 0]),
        (["9223372036854775808", "1"], ["9223372036854775808", "1"]),
        (["2025-01-31", "2025-02-01"], [date(2025, 1, 31), date(2025, 2, 1)]),
        (["2025-01-31", "2025-02-30"], ["2025-01-31", "2025-02-30"]),
        (["true", "True"], ["true", "True"]),
        (["a%20b", "a%2Fb", "100%", "%ff"], ["a b", "a/b", "100%", "%ff"]),
        (["__HIVE_DEFAULT_PARTITION__", "3"], [None, 3]),
        (["", "null"], ["", "null"]),
        (["a=b", "a"], ["a=b", "a"]),
    ],
)
def test_a_folder_has_the_value_that_is_written(values, expected):
    found = partitions([f"id={value}/x.parquet" for value in values])
    assert found["id"].to_list() == expected


def test_folders_without_a_key_are_no_columns():
    assert partitions(["a/b.parquet", "=x/b.parquet", "c=d.parquet"]) is None


@pytest.mark.parametrize("suffix", WRITERS)
def test_hive_ids_that_look_alike_are_different_groups(tmp_path, suffix):
    source = folders(tmp_path / "in", ["01", "1", "1.0"], suffix)
    assert index_groups(source, by="id").n_groups == 3
    assert locate(source).frame.collect()["id"].to_list() == ["01"] * 2 + ["1"] * 2 + ["1.0"] * 2
    for layout in ("wide", "narrow"):
        for keep in ("all", "best:1"):
            out = tmp_path / f"{layout}{keep[:3]}"
            told = gs.score(source, out, by="id", layout=layout, keep=keep)
            assert told.groups == 3
            found = gs.scan(out).collect()
            each = 2 if keep == "all" else 1
            assert found["id"].to_list() == ["01"] * each + ["1"] * each + ["1.0"] * each
            assert found["group_size"].to_list() == [2] * 3 * each
            assert verify(out).kept == len(found)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("given", ["folder", "glob", "files"])
def test_folders_name_columns_in_every_command(tmp_path, suffix, given):
    root = folders(tmp_path / "in", ["2", "10"], suffix)
    files = sorted(root.rglob(f"*{suffix}"), key=lambda path: len(str(path)))
    source = {"folder": root, "glob": f"{root}/id=*/*{suffix}", "files": files}[given]
    target = tmp_path / "out.parquet"
    union = locate(source).frame.collect()
    assert union.schema["id"] == pl.Int64
    assert dict(union.group_by("id").agg("reward").rows()) == {2: [0.0, 1.0], 10: [0.1, 1.1]}
    assert [s.part for s in summary.summarize(source, by="id", per="id")] == [None, "2", "10"]
    best.best(source, target, by="id")
    assert sorted(pl.read_parquet(target)["reward"]) == [1.0, 1.1]
    pairs(source, tmp_path / "pairs.parquet", by="id")
    assert pl.read_parquet(tmp_path / "pairs.parquet").height == 2
    nested.nest(source, tmp_path / "lists.parquet", by="id")
    assert sorted(pl.read_parquet(tmp_path / "lists.parquet")["id"]) == [2, 10]
    selection.select(source, tmp_path / "chosen.parquet", by="id", keep="best:1")
    chosen = selection.apply(selection.read_selection(tmp_path / "chosen.parquet"))
    assert sorted(chosen.select("id", "reward").collect().rows()) == [(2, 1.0), (10, 1.1)]
    groups = list(data.rollouts(source, by="id"))
    assert sorted(groups[0].group_ids) == [2, 10]
    assert gs.score(source, tmp_path / "scored", by="id").groups == 2
    assert sorted(gs.scan(tmp_path / "scored").collect()["id"]) == [2, 2, 10, 10]


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_folder_hides_no_column(tmp_path, suffix):
    rows = pl.DataFrame({"id": [1, 2], "reward": [0.0, 1.0]})
    write(rows, tmp_path / "in" / "id=7" / f"x{suffix}")
    for read in (
        lambda: index_groups(tmp_path / "in", by="id"),
        lambda: gs.score(tmp_path / "in", tmp_path / "out", by="id"),
    ):
        with pytest.raises(ValueError, match=rf"x\{suffix} has a column 'id'.*folder id="):
            read()


def test_a_file_without_the_key_has_null(tmp_path):
    source = folders(tmp_path / "in", ["1"])
    pl.DataFrame({"reward": [5.0], "prompt": ["p"], "completion": ["c"]}).write_parquet(
        source / "z.parquet"
    )
    assert locate(source).frame.collect()["id"].to_list() == [1, 1, None]
    with pytest.raises(ValueError, match=r"'id' is null at row 2"):
        index_groups(source, by="id")
    assert index_groups(source, by="prompt").n_groups == 1


def test_only_the_folders_of_a_column_are_counted(tmp_path):
    source = folders(tmp_path / "in", ["1", "2"], ".jsonl")
    frame = locate(source).frame
    assert frame.select(pl.len()).collect().item() == 4
    assert frame.select("id").collect()["id"].to_list() == [1, 1, 2, 2]


@pytest.mark.parametrize("below", ["/", "/*/*.parquet", "/**/*.parquet"])
def test_folders_at_an_address_are_text(tmp_path, below):
    source = folders(tmp_path / "in=side", ["01", "1"])
    address = f"file://{source}{below}"
    assert index_groups(address, by="id").n_groups == 2
    assert locate(address).frame.collect()["id"].to_list() == ["01", "01", "1", "1"]
    for layout in ("wide", "narrow"):
        out = tmp_path / f"out{layout}"
        assert gs.score(address, out, by="id", layout=layout).groups == 2
        assert gs.scan(out).collect()["id"].to_list() == ["01", "01", "1", "1"]
    for file in source.rglob("*.parquet"):
        pl.DataFrame({"id": ["x"], "reward": [0.0]}).write_parquet(file)
    with pytest.raises(ValueError, match=r"column 'id'.*folder id="):
        index_groups(address, by="id")


@pytest.mark.parametrize("ids", [["1", "2"], [1, 2], [None, "x"], ["a b", "ü/%"]])
def test_a_key_that_a_file_has_too_is_read_from_it_if_both_say_the_same(tmp_path, ids):
    rows = pl.DataFrame({"id": ids * 2, "reward": [0.0, 1.0, 0.5, 0.25]})
    rows.write_parquet(tmp_path / "in", partition_by="id", mkdir=True)
    assert "id" in pl.read_parquet_schema(next((tmp_path / "in").rglob("*.parquet")))
    found = locate(tmp_path / "in").frame.collect()
    assert found.schema["id"] == rows.schema["id"]
    assert sorted(found.rows(), key=repr) == sorted(rows.rows(), key=repr)
    if None not in ids:
        assert gs.score(tmp_path / "in", tmp_path / "out", by="id").groups == 2
        scored = gs.scan(tmp_path / "out").collect().select("id", "reward", "rank")
        direct = gs.score(rows, tmp_path / "direct", by="id")
        expected = gs.scan(tmp_path / "direct").collect().select("id", "reward", "rank")
        assert direct.groups == 2
        assert {str(row) for row in scored.with_columns(pl.col("id").cast(pl.String)).rows()} == {
            str(row) for row in expected.with_columns(pl.col("id").cast(pl.String)).rows()
        }
