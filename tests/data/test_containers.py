"""Rows in Arrow streams, in folders of `save_to_disk` and in memory, through every command."""

import datetime
import json
import shutil
from decimal import Decimal

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

import gspo_rs as gs
from gspo_rs import data
from gspo_rs.files import best, nested, pairs, selection, summary, verl
from gspo_rs.report import report

# Two groups that interleave, a null reward, and lines as texts have them.
ROWS = {
    "id": ["a", "b", "a", "b", "a"],
    "prompt": ["p", "q", "p", "q", "p"],
    "completion": ["x\n", "y", "zz", "", "ü"],
    "reward": [0.0, 1.0, 1.0, None, 0.5],
}
FRAME = pl.DataFrame(ROWS)


def write_stream(folder):
    FRAME.write_ipc_stream(folder / "in.arrow", compat_level=pl.CompatLevel.oldest())
    return folder / "in.arrow"


def write_saved(folder):
    datasets.Dataset.from_dict(ROWS).save_to_disk(folder / "saved", num_shards=2)
    (folder / "saved" / "cache-0123456789abcdef.arrow").write_bytes(b"not of the data")
    return folder / "saved"


def write_split(folder):
    split = datasets.Dataset.from_dict(ROWS)
    datasets.DatasetDict({"train": split}).save_to_disk(folder / "splits")
    return folder / "splits"


def shuffled(_):
    order = [3, 1, 4, 0, 2]
    mixed = datasets.Dataset(FRAME[order].to_arrow())
    return mixed.select(np.argsort(order))


SOURCES = {
    "stream": write_stream,
    "saved": write_saved,
    "the only split": write_split,
    "pandas": lambda _: pd.DataFrame(ROWS),
    "filtered pandas": lambda _: pd.DataFrame(FRAME[[4, *range(5)]].to_dict(as_series=False))[1:],
    "table": lambda _: FRAME.to_arrow(),
    "record batch": lambda _: FRAME.to_arrow().combine_chunks().to_batches()[0],
    "data set": lambda _: datasets.Dataset.from_dict(ROWS),
    "chosen rows": shuffled,
    "columns": lambda _: ROWS,
    "rows": lambda _: FRAME.to_dicts(),
}


@pytest.fixture(params=SOURCES)
def source(request, tmp_path):
    return SOURCES[request.param](tmp_path)


def same(found, expected):
    assert found.to_dicts() == expected.to_dicts()


def test_rows_are_the_same_wherever_they_lie(source):
    same(data.scan(source).collect(), FRAME)


@pytest.mark.parametrize("layout", ["wide", "narrow"])
def test_scores_are_the_same_wherever_rows_lie(source, layout, tmp_path):
    gs.score(source, tmp_path / "out", by="id", layout=layout)
    gs.score(FRAME, tmp_path / "expected", by="id", layout=layout)
    found, expected = (
        pl.concat([pl.read_parquet(file) for file in sorted((tmp_path / name).rglob("*.parquet"))])
        for name in ("out", "expected")
    )
    same(found, expected)
    gs.verify(tmp_path / "out")


WRITERS = {
    "best": lambda source, target: best.best(source, target, by="id"),
    "pairs": lambda source, target: pairs.pairs(source, target, by="id"),
    "lists": lambda source, target: nested.nest(source, target, by="id", once=["prompt"]),
    "verl": lambda source, target: verl.verl(
        source, target, by="id", ground_truth="prompt", data_source="mine"
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("command", WRITERS)
def test_what_is_written_is_the_same_wherever_rows_lie(source, command, tmp_path):
    WRITERS[command](source, tmp_path / "out.parquet")
    WRITERS[command](FRAME, tmp_path / "expected.parquet")
    same(pl.read_parquet(tmp_path / "out.parquet"), pl.read_parquet(tmp_path / "expected.parquet"))


def test_numbers_and_batches_are_the_same_wherever_rows_lie(source, tmp_path):
    assert summary.summarize(source, by="id") == summary.summarize(FRAME, by="id")
    found = list(data.rollouts(source, by="id"))
    assert [batch.completions for batch in found] == [["x\n", "zz", "ü", "y", ""]]
    page = report(source, tmp_path / "page.html", by="id")
    assert "2 groups" in page.read_text() or page.stat().st_size


def test_prompts_are_read_wherever_they_lie(source):
    assert data.prompts(source, prompt="prompt").texts == ROWS["prompt"]


@pytest.mark.parametrize("name", ["stream", "saved"])
def test_rows_are_chosen_from_files_of_streams(name, tmp_path):
    source = SOURCES[name](tmp_path)
    selection.select(source, tmp_path / "chosen.parquet", by="id", keep="best:1")
    found = selection.apply(selection.read_selection(tmp_path / "chosen.parquet"))
    assert found.collect()["completion"].to_list() == ["y", "zz"]


REFUSED = {
    "splits": (
        datasets.DatasetDict({"train": datasets.Dataset.from_dict(ROWS), "test": None}),
        r"splits 'train', 'test'; give one, as dataset\['train'\]",
    ),
    "streamed": (
        datasets.Dataset.from_dict(ROWS).to_iterable_dataset(),
        "IterableDataset streams its rows, which are read twice",
    ),
    "model": (torch.nn.Linear(2, 2), r"a torch\.nn\.modules\.linear\.Linear has no rows"),
    "array": (np.zeros((2, 2)), r"a numpy\.ndarray has no rows"),
    "number": (7, "7 has no rows to read"),
    "nothing": (None, "None has no rows to read"),
    "generator": ((row for row in FRAME.to_dicts()), r"a builtins\.generator has no rows"),
    "set of paths": ({"a.parquet"}, r"a builtins\.set has no rows"),
    "bytes": (b"in.parquet", r"a builtins\.bytes has no rows"),
    "frames": (["a.parquet", FRAME], r"item 1 of the source, a polars.*DataFrame, is no path"),
    "ragged columns": ({"id": ["a"], "reward": [0.0, 1.0]}, "the dict of columns is no table"),
    "mixed column": (
        pd.DataFrame({"id": [1, "x"], "reward": [0.0, 1.0]}),
        "the DataFrame of pandas is no table",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_rows_is_refused_for_what_it_is(name, tmp_path):
    source, words = REFUSED[name]
    calls = [
        lambda: data.scan(source),
        lambda: gs.score(source, tmp_path / "out", by="id"),
        lambda: summary.summarize(source, by="id"),
        lambda: best.best(source, tmp_path / "out.parquet", by="id"),
        lambda: report(source, tmp_path / "page.html", by="id"),
    ]
    for call in calls:
        with pytest.raises(TypeError, match=words):
            call()
    assert list(tmp_path.iterdir()) == []


def test_a_nan_of_pandas_is_a_null(tmp_path):
    frame = pd.DataFrame({"id": ["a", None, "a"], "reward": [0.0, 1.0, float("nan")]})
    with pytest.raises(ValueError, match="row 1"):
        gs.score(frame, tmp_path / "out", by="id")
    found = summary.summarize(frame[frame["id"].notna()], by="id")
    assert (found[0].rows, found[0].unscorable) == (2, 1)


@pytest.mark.parametrize("suffix", ["arrow", "arrows", "ipc", "feather"])
@pytest.mark.parametrize("layout", ["file", "stream"])
def test_the_first_bytes_tell_a_file_from_a_stream(suffix, layout, tmp_path):
    path = tmp_path / f"in.{suffix}"
    (FRAME.write_ipc if layout == "file" else FRAME.write_ipc_stream)(path)
    same(data.scan(path).collect(), FRAME)


def test_files_and_streams_are_read_together_in_order(tmp_path):
    FRAME[:2].write_ipc(tmp_path / "0.arrow")
    FRAME[2:].write_ipc_stream(tmp_path / "1.arrow")
    same(data.scan(tmp_path).collect(), FRAME)
    assert summary.summarize(tmp_path, by="id")[0].groups == 2


def stream_of_batches(path):
    table = FRAME.to_arrow()
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        for start in range(len(table)):
            writer.write_table(table.slice(start, 1))
    return path.read_bytes()


def test_a_stream_that_was_cut_anywhere_is_an_error_and_never_fewer_rows(tmp_path):
    path = tmp_path / "in.arrow"
    whole = stream_of_batches(path)
    for stop in range(0, len(whole), 8):
        path.write_bytes(whole[:stop])
        with pytest.raises(OSError, match=r"cannot read .*in\.arrow"):
            summary.summarize(path, by="id")
        with pytest.raises(OSError, match=r"cannot read .*in\.arrow"):
            gs.score(path, tmp_path / "out", by="id", layout="narrow")
    path.write_bytes(whole)
    assert summary.summarize(path, by="id")[0].rows == 5


def test_several_splits_are_named_with_the_path_of_each(tmp_path):
    split = datasets.Dataset.from_dict(ROWS)
    datasets.DatasetDict({"train": split, "test": split}).save_to_disk(tmp_path / "d")
    with pytest.raises(ValueError, match=r"splits train, test; give .*d/train or .*d/test"):
        data.scan(tmp_path / "d")
    same(data.scan(tmp_path / "d" / "test").collect(), FRAME)


def test_a_saved_data_set_is_read_in_the_order_that_it_says(tmp_path):
    folder = write_saved(tmp_path)
    state = json.loads((folder / "state.json").read_text())
    state["_data_files"].reverse()
    (folder / "state.json").write_text(json.dumps(state))
    found = data.scan(folder).collect()["completion"].to_list()
    assert found == ["", "ü", "x\n", "y", "zz"]


def test_a_saved_data_set_that_lacks_a_file_or_keeps_an_order_beside_it_is_refused(tmp_path):
    folder = write_saved(tmp_path)
    shutil.copytree(folder, tmp_path / "kept")
    state = json.loads((folder / "state.json").read_text())
    (tmp_path / "kept" / "state.json").write_text(
        json.dumps({**state, "_indices_data_files": [{"filename": "indices.arrow"}]})
    )
    with pytest.raises(ValueError, match="flatten_indices"):
        data.scan(tmp_path / "kept")
    (folder / state["_data_files"][1]["filename"]).unlink()
    with pytest.raises(FileNotFoundError, match="no such file"):
        data.scan(folder)


@pytest.mark.parametrize("ids", [["1", 1, "1"], [1, 1, "1"], [None, True, "true"], ["1.5", 1.5, 2]])
def test_a_text_and_a_number_in_a_list_of_rows_are_not_one_id(ids):
    rows = [{"id": i, "reward": 1.0} for i in ids]
    with pytest.raises(TypeError, match=r"column 'id' of the list of rows is .* in row \d, but"):
        summary.summarize(rows, by="id")


def test_a_bool_and_an_integer_in_a_list_of_rows_are_not_one_id():
    rows = [{"id": i, "reward": 1.0} for i in (1, True)]
    with pytest.raises(TypeError, match="'id' of the list of rows is 1 in row 0, but True in row"):
        summary.summarize(rows, by="id")
    nested = [{"id": {"x": i}, "reward": 1.0} for i in ("1", 1)]
    with pytest.raises(TypeError, match=r"'id\.x' of the list of rows is '1' in row 0, but 1 in"):
        summary.summarize(nested, by="id.x")


@pytest.mark.parametrize("values", [(1, "x"), (True, "x"), (0.5, "x"), (True, 1), (b"x", "x")])
def test_a_mixed_column_that_nobody_asks_for_decides_nothing(values, tmp_path):
    rows = [{"id": 1, "reward": float(i), "more": value} for i, value in enumerate(values)]
    assert summary.summarize(rows, by="id") == summary.summarize(
        [{"id": row["id"], "reward": row["reward"]} for row in rows], by="id"
    )
    gs.score(rows, tmp_path / "out", by="id")
    assert gs.scan(tmp_path / "out").collect()["rank"].to_list() == [1.0, 2.0]
    with pytest.raises(TypeError, match="column 'more' of the list of rows is"):
        summary.summarize(rows, by="more")


@pytest.mark.parametrize("values", [(1, "1"), (0.5, "x")])
def test_a_text_among_the_rewards_of_a_list_of_rows_is_refused(values):
    rows = [{"id": 1, "reward": value} for value in values]
    with pytest.raises(TypeError, match=r"column 'reward' of the list of rows is .*, but '.' in"):
        summary.summarize(rows, by="id")


@pytest.mark.parametrize("large", [2**60 + 1, Decimal("0.1234567890123456789")])
def test_a_reward_that_float64_would_round_beside_others_is_refused_with_its_row(large):
    rows = [{"id": 1, "reward": value} for value in (0.5, True, large)]
    with pytest.raises(TypeError, match=f"'reward' .* is {large} in row 2, which float64 would"):
        summary.summarize(rows, by="id")
    exact = [{"id": 1, "reward": value} for value in (0.5, True, 2**53 - 1)]
    assert summary.summarize(exact, by="id")[0].quantiles[-1] == 2**53 - 1


@pytest.mark.parametrize("values", [({"a": 1}, 1), (datetime.date(2020, 1, 1), 7)])
def test_values_of_which_polars_would_lose_one_are_refused(values):
    rows = [{"id": 1, "reward": 1.0, "more": value} for value in values]
    with pytest.raises(TypeError, match="column 'more' of the list of rows is"):
        summary.summarize(rows, by="id")
