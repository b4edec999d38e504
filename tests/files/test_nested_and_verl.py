"""Lists of groups and verl's schema: nothing is lost, and other libraries read what is written."""

import datetime as dt
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from gspo_rs.files import nested as list_files
from gspo_rs.files.nested import explode, nest
from gspo_rs.files.pairs import pairs
from gspo_rs.files.verl import verl

VALUES = {
    "number": (st.integers(-(2**40), 2**40), pl.Int64),
    "byte": (st.integers(0, 255), pl.UInt8),
    "text": (st.text(max_size=5), pl.String),
    "bytes": (st.binary(max_size=4), pl.Binary),
    "when": (
        st.datetimes(dt.datetime(1990, 1, 1), dt.datetime(2090, 1, 1)),
        pl.Datetime("us"),
    ),
    "price": (st.integers(-999, 999).map(lambda cents: Decimal(cents) / 100), pl.Decimal(9, 2)),
    "kind": (st.sampled_from(["x", "y"]), pl.Enum(["x", "y"])),
    "tokens": (st.lists(st.integers(0, 9), max_size=3), pl.List(pl.Int32)),
    "pair": (st.lists(st.floats(0, 1), min_size=2, max_size=2), pl.Array(pl.Float64, 2)),
    "message": (
        st.fixed_dictionaries({"role": st.just("user"), "content": st.text(max_size=3)}),
        pl.Struct({"role": pl.String, "content": pl.String}),
    ),
    "position": (st.booleans(), pl.Boolean),
}


@st.composite
def frames(draw):
    n = draw(st.integers(1, 12))
    ids = draw(st.lists(st.sampled_from("abcd"), min_size=n, max_size=n))
    columns = [pl.Series("id", ids)]
    for name, (values, dtype) in VALUES.items():
        drawn = draw(st.lists(st.none() | values, min_size=n, max_size=n))
        columns.append(pl.Series(name, drawn, dtype=dtype))
    rewards = draw(st.lists(st.none() | st.floats(-1, 1), min_size=n, max_size=n))
    columns.append(pl.Series("reward", rewards, dtype=pl.Float64))
    return pl.DataFrame(columns)


@pytest.mark.slow
@settings(max_examples=40)
@given(frames())
def test_lists_and_back_give_every_value_and_type_group_after_group(tmp_path_factory, frame):
    folder = tmp_path_factory.mktemp("lists")
    written = nest(frame, folder / "lists.parquet", by="id")
    lists = pl.read_parquet(folder / "lists.parquet")
    assert lists.columns == frame.columns
    assert lists["id"].to_list() == frame["id"].unique(maintain_order=True).to_list()
    assert written.rows == len(lists)
    explode(folder / "lists.parquet", folder / "rows.parquet")
    expected = pl.concat(frame.partition_by("id", maintain_order=True))
    assert_frame_equal(pl.read_parquet(folder / "rows.parquet"), expected)


@pytest.mark.slow
@pytest.mark.parametrize("file", ["rg_policy3", "tot_game24_200", "wmt21_ted_zhen_mqm"])
def test_real_files_come_back_from_lists_over_the_disk(shared, tmp_path, monkeypatch, file):
    monkeypatch.setattr(
        list_files, "sort_on_disk", lambda *a, **k: ORDERED(*a, budget=1 << 18, **k)
    )
    source = shared / f"data/{file}.parquet"
    nest(source, tmp_path / "l.parquet", by="prompt_id", once=["prompt"])
    explode(tmp_path / "l.parquet", tmp_path / "r.parquet")
    frame = pl.read_parquet(source)
    expected = pl.concat(frame.partition_by("prompt_id", maintain_order=True))
    assert_frame_equal(pl.read_parquet(tmp_path / "r.parquet"), expected)


ORDERED = list_files.sort_on_disk


def test_lists_of_json_lines_are_read_back(tmp_path):
    frame = pl.DataFrame({"id": [2, 1, 2], "text": ["a", None, "b"], "reward": [0.5, 1.0, 0.0]})
    nest(frame, tmp_path / "l.jsonl", by="id")
    lines = (tmp_path / "l.jsonl").read_text().splitlines()
    assert lines[0] == '{"id":2,"text":["a","b"],"reward":[0.5,0.0]}'
    explode(tmp_path / "l.jsonl", tmp_path / "r.jsonl")
    assert pl.read_ndjson(tmp_path / "r.jsonl").rows() == [(2, "a", 0.5), (2, "b", 0), (1, None, 1)]


def test_a_column_that_comes_once_must_be_the_same_in_its_group(tmp_path):
    frame = pl.DataFrame({"id": [7, 8, 7], "prompt": ["p", "q", None], "reward": [1.0, 0.0, 0.0]})
    with pytest.raises(ValueError, match="rows 0 and 2 of the DataFrame are of one group but diff"):
        nest(frame, tmp_path / "l.parquet", by="id", once=["prompt"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"a": [[1], [2, 3]], "b": [[1], [2]]}, r"row 1 of .*: 'b' has 1 values, 'a' 2; all lists"),
        ({"a": [[1], []]}, r"row 1 of .*: 'a' has 0 values"),
        ({"a": [None, [1]]}, r"row 0 of .*: 'a' has None values"),
        ({"a": [1, 2]}, r"no column of the DataFrame is a list; it has a"),
    ],
)
def test_lists_that_make_no_rows_are_refused_with_their_row(tmp_path, columns, words):
    with pytest.raises(ValueError, match=words):
        explode(pl.DataFrame(columns), tmp_path / "r.parquet")
    assert list(tmp_path.iterdir()) == []


def test_verl_gets_one_prompt_per_group_in_its_schema(shared, tmp_path):
    datasets = pytest.importorskip("datasets")
    source = shared / "data/gsm8k_solutions4.parquet"
    target = tmp_path / "train.parquet"
    named = {"ground_truth": "expected_answer", "data_source": "openai/gsm8k", "ability": "math"}
    written = verl(source, target, by="prompt_id", keep="pass-rate:0.25..0.75", **named)
    loaded = datasets.Dataset.from_parquet(str(target), cache_dir=str(tmp_path / "cache"))
    assert loaded.column_names == ["data_source", "prompt", "ability", "reward_model", "extra_info"]
    expected = (
        pl.read_parquet(source)
        .group_by("prompt_id", maintain_order=True)
        .agg(pl.first("prompt", "expected_answer"), pl.mean("reward"), pl.len())
        .filter(pl.col("reward").is_between(0.25, 0.75))
    )
    assert written.rows == len(loaded) == len(expected) > 100
    for number, (row, group) in enumerate(zip(loaded, expected.to_dicts(), strict=True)):
        assert row["data_source"] == "openai/gsm8k"
        assert row["ability"] == "math"
        assert row["prompt"] == [{"role": "user", "content": group["prompt"]}]
        assert row["reward_model"] == {"style": "rule", "ground_truth": group["expected_answer"]}
        assert row["extra_info"] == {
            "split": "train",
            "index": number,
            "group_size": group["len"],
            "group_mean": group["reward"],
        }


def test_verl_refuses_a_group_with_two_answers_and_a_null_prompt(tmp_path):
    frame = pl.DataFrame(
        {"prompt": ["p", "q", "p"], "answer": [1, 2, 3], "reward": [0.0, 0.0, 1.0]}
    )
    options = {"by": "prompt", "ground_truth": "answer", "data_source": "sums"}
    with pytest.raises(ValueError, match=r"rows 0 and 2 of the DataFrame .* differ in 'answer'"):
        verl(frame, tmp_path / "v.parquet", **options)
    null = frame.with_columns(prompt=None, id=1, answer=1).cast({"prompt": pl.String})
    with pytest.raises(ValueError, match="the prompt is null at row 0"):
        verl(null, tmp_path / "v.parquet", **{**options, "by": "id"})
    with pytest.raises(ValueError, match="no column 'anwser'; did you mean 'answer'"):
        verl(frame, tmp_path / "v.parquet", **{**options, "ground_truth": "anwser"})
    assert list(tmp_path.iterdir()) == []


def test_rows_are_made_of_arrays_as_they_are_of_lists(tmp_path):
    lists = pl.DataFrame(
        {
            "prompt": ["b", "a"],
            "completion": [["x", "y"], ["z", "w"]],
            "reward": [[1, None], [0, 2]],
        }
    )
    arrays = lists.with_columns(
        pl.col("completion").list.to_array(2), pl.col("reward").list.to_array(2)
    )
    pairs(arrays, tmp_path / "pairs.parquet", by="prompt")
    assert pl.read_parquet(tmp_path / "pairs.parquet")["chosen"].to_list() == ["w"]
    explode(lists, tmp_path / "lists.parquet")
    explode(arrays, tmp_path / "arrays.parquet")
    found = pl.read_parquet(tmp_path / "arrays.parquet")
    assert found.equals(pl.read_parquet(tmp_path / "lists.parquet"))
    assert found["reward"].to_list() == [1, None, 0, 2]
    whole = lists.with_columns(vector=pl.Series([[1.0] * 3] * 2, dtype=pl.Array(pl.Float64, 3)))
    explode(whole, tmp_path / "whole.parquet")
    assert pl.read_parquet(tmp_path / "whole.parquet")["vector"].to_list() == [[1.0] * 3] * 4
