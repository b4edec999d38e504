"""Files of one source whose columns differ: read as one table, exactly, or refused by name."""

import decimal

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import gspo_rs as gs
from gspo_rs import data
from gspo_rs.files import best, nested, pairs, selection, summary, verl
from gspo_rs.report import report

pytestmark = pytest.mark.slow

BASE = pl.DataFrame(
    {"id": ["a", "a"], "prompt": ["p", "p"], "completion": ["x", "y"], "reward": [0.0, 1.0]}
)
OTHER = BASE.with_columns(id=pl.lit("b"))
WHOLE = [0, 1]


def rewards(frame, values, kind):
    return frame.with_columns(pl.Series("reward", values, dtype=kind))


def ids(frame, values, kind):
    return frame.with_columns(pl.Series("id", values, dtype=kind))


WIDE_DECIMAL = pa.array([decimal.Decimal("1" * 50)] * 2, pa.decimal256(60, 0))
# Two files, and the ids and rewards that they have together.
CASES = {
    "extra column": (BASE, OTHER.with_columns(x=pl.lit(1))),
    "missing column": (BASE.with_columns(x=pl.lit(1)), OTHER),
    "another order": (BASE, OTHER.select(*reversed(OTHER.columns))),
    "types of a column nobody asked for": (
        BASE.with_columns(x=pl.lit(1)),
        OTHER.with_columns(x=pl.lit("t")),
    ),
    "a column of nulls nobody asked for": (
        BASE.with_columns(x=pl.lit(None)),
        OTHER.with_columns(x=pl.lit("t")),
    ),
    "decimal256": (BASE.to_arrow().append_column("d", WIDE_DECIMAL), OTHER),
    "int32 and int64 rewards": (rewards(BASE, WHOLE, pl.Int32), rewards(OTHER, WHOLE, pl.Int64)),
    "uint64 and int8 rewards": (rewards(BASE, WHOLE, pl.UInt64), rewards(OTHER, WHOLE, pl.Int8)),
    "float32 and float64 rewards": (rewards(BASE, WHOLE, pl.Float32), OTHER),
    "int and float rewards": (rewards(BASE, WHOLE, pl.Int64), rewards(OTHER, [0.5, 1], pl.Float64)),
    "bool and float rewards": (
        rewards(BASE, [False, True], pl.Boolean),
        rewards(OTHER, [0.5, 1], pl.Float64),
    ),
    "null rewards in one": (rewards(BASE, [None, None], pl.Null), OTHER),
    "null rewards in the other": (BASE, rewards(OTHER, [None, None], pl.Null)),
    "int32 and int64 ids": (ids(BASE, [1, 1], pl.Int32), ids(OTHER, [2, 2], pl.Int64)),
    "uint8 and int64 ids": (ids(BASE, [1, 1], pl.UInt8), ids(OTHER, [1, 2], pl.Int64)),
    "categories and texts": (ids(BASE, ["a", "a"], pl.Categorical), OTHER),
    "enums and texts": (ids(BASE, ["a", "a"], pl.Enum(["a", "z"])), OTHER),
}


@pytest.fixture(params=CASES)
def folder(request, tmp_path):
    (tmp_path / "in").mkdir()
    for place, frame in enumerate(CASES[request.param]):
        table = frame if isinstance(frame, pa.Table) else frame.to_arrow()
        pq.write_table(table, tmp_path / "in" / f"{place}.parquet")
    return tmp_path / "in"


def together(folder):
    """Ids and rewards of all files, by hand, as the widest types."""
    needed = ["id", "prompt", "completion", "reward"]
    frames = [pl.from_arrow(pq.read_table(f, columns=needed)) for f in sorted(folder.iterdir())]
    kind = pl.Int64 if frames[0]["id"].dtype.is_integer() else pl.String
    return pl.concat(
        frame.select(
            pl.col("id").cast(kind), "prompt", "completion", pl.col("reward").cast(pl.Float64)
        )
        for frame in frames
    )


def test_stats_are_those_of_all_rows(folder):
    assert summary.summarize(folder, by="id") == summary.summarize(together(folder), by="id")


@pytest.mark.parametrize("layout", ["wide", "narrow"])
def test_scores_are_those_of_all_rows_and_are_read_back(folder, layout, tmp_path):
    gs.score(folder, tmp_path / "out", by="id", layout=layout)
    gs.score(together(folder), tmp_path / "expected", by="id")
    columns = ["rank", "percentile", "advantage", "group_size", "group_mean"]
    found = gs.scan(tmp_path / "out").select(columns).collect()
    assert found.equals(gs.scan(tmp_path / "expected").select(columns).collect())
    gs.verify(tmp_path / "out")


@pytest.mark.parametrize("nested", [False, True])
def test_a_decimal_that_polars_has_not_is_carried_along_where_nobody_asks_for_it(tmp_path, nested):
    path, digits = (
        tmp_path / "rows.parquet",
        [decimal.Decimal(f"{10**60 + i}.25") for i in range(4)],
    )
    values = pa.array(digits, pa.decimal256(70, 2))
    wide = pa.array([[d] for d in digits], pa.list_(values.type)) if nested else values
    rewards = [0.0, 1.0, 1.0, 1.0]
    pq.write_table(pa.table({"id": ["a", "a", "b", "b"], "reward": rewards, "wide": wide}), path)
    gs.score(path, tmp_path / "out", by="id")
    found = pq.read_table(tmp_path / "out" / "rows.parquet")
    assert found["wide"].to_pylist() == wide.to_pylist()
    assert found["advantage"].to_pylist() == [-1.0, 1.0, 0.0, 0.0]
    scored = gs.scan(tmp_path / "out")
    assert scored.select("percentile").collect().to_series().to_list() == [0.0, 1.0, 0.5, 0.5]
    with pytest.raises(TypeError, match=r"column 'wide' is .*, which is not read here; drop it"):
        gs.score(path, tmp_path / "chosen", by="id", keep="reward:1..")


WRITERS = {
    "best": lambda source, target: best.best(source, target, by="id"),
    "pairs": lambda source, target: pairs.pairs(source, target, by="id"),
    "verl": lambda source, target: verl.verl(
        source, target, by="id", ground_truth="prompt", data_source="mine"
    ),
}


@pytest.mark.parametrize("command", WRITERS)
def test_what_is_written_is_that_of_all_rows(folder, command, tmp_path):
    WRITERS[command](folder, tmp_path / "out.jsonl")
    WRITERS[command](together(folder), tmp_path / "expected.jsonl")
    found, expected = (
        (tmp_path / "out.jsonl").read_text(),
        (tmp_path / "expected.jsonl").read_text(),
    )
    assert found == expected


def test_batches_pages_and_selections_are_those_of_all_rows(folder, tmp_path):
    found = [batch.completions for batch in data.rollouts(folder, by="id")]
    assert found == [batch.completions for batch in data.rollouts(together(folder), by="id")]
    assert report(folder, tmp_path / "page.html", by="id").stat().st_size
    selection.select(folder, tmp_path / "s.parquet", by="id", keep="scored")
    chosen = selection.apply(selection.read_selection(tmp_path / "s.parquet"))
    scored = together(folder).filter(pl.col("reward").is_not_null())
    assert chosen.select("completion").collect().equals(scored.select("completion"))


@pytest.mark.parametrize("name", ["extra column", "missing column", "another order"])
def test_lists_have_null_where_a_file_lacks_a_column(name, tmp_path):
    (tmp_path / "in").mkdir()
    frames = CASES[name]
    for place, frame in enumerate(frames):
        frame.write_parquet(tmp_path / "in" / f"{place}.parquet")
    nested.nest(tmp_path / "in", tmp_path / "out.parquet", by="id")
    nested.nest(pl.concat(frames, how="diagonal"), tmp_path / "expected.parquet", by="id")
    found, expected = (pl.read_parquet(tmp_path / f"{n}.parquet") for n in ("out", "expected"))
    assert found.equals(expected)


MIXED = {
    "text and integer": (BASE, ids(OTHER, [1, 2], pl.Int64), "String", "Int64"),
    "bool and integer": (ids(BASE, [True, False], pl.Boolean), ids(OTHER, [1, 2], pl.Int8), "", ""),
    "date and text": (
        BASE.with_columns(id=pl.date(2026, 1, 1)),
        OTHER,
        "Date",
        "String",
    ),
}


@pytest.mark.parametrize("name", MIXED)
def test_ids_of_several_types_are_refused_with_a_file_of_each(name, tmp_path):
    (tmp_path / "in").mkdir()
    *frames, one, other = MIXED[name]
    for place, frame in enumerate(frames):
        frame.write_parquet(tmp_path / "in" / f"{place}.parquet")
    words = rf"column 'id' is {one}.* in .*0\.parquet, but {other}.* in .*1\.parquet"
    for call in (
        lambda: summary.summarize(tmp_path / "in", by="id"),
        lambda: gs.score(tmp_path / "in", tmp_path / "out", by="id"),
        lambda: gs.score(tmp_path / "in", tmp_path / "out", by="id", layout="narrow"),
        lambda: best.best(tmp_path / "in", tmp_path / "b.parquet", by="id"),
        lambda: list(data.rollouts(tmp_path / "in", by="id")),
    ):
        with pytest.raises(TypeError, match=words):
            call()
    assert not (tmp_path / "out").exists()


def test_a_whole_number_that_float64_does_not_hold_is_refused_beside_floats(tmp_path):
    rewards(BASE, [1, 2**53 + 1], pl.Int64).write_parquet(tmp_path / "0.parquet")
    OTHER.write_parquet(tmp_path / "1.parquet")
    told = r"0\.parquet is 9007199254740993 at row 1, [^\n]* scale it down$"
    with pytest.raises(ValueError, match=told):
        summary.summarize(tmp_path, by="id")
    with pytest.raises((OSError, ValueError), match=r"9007199254740993|row 1"):
        gs.score(tmp_path, tmp_path / "out", by="id", layout="narrow")


def test_a_column_of_two_kinds_is_told_when_it_is_asked_for(tmp_path):
    BASE.with_columns(x=pl.lit(1)).write_parquet(tmp_path / "0.parquet")
    OTHER.with_columns(x=pl.lit("t")).write_parquet(tmp_path / "1.parquet")
    with pytest.raises(TypeError, match=r"column 'x' is Int32 in .*0\.parquet, but String in .*1"):
        summary.summarize(tmp_path, by="id", reward="x")


@pytest.mark.parametrize("name", ["decimal256", "types of a column nobody asked for"])
def test_lists_leave_out_no_column_silently(name, tmp_path):
    (tmp_path / "in").mkdir()
    for place, frame in enumerate(CASES[name]):
        table = frame if isinstance(frame, pa.Table) else frame.to_arrow()
        pq.write_table(table, tmp_path / "in" / f"{place}.parquet")
    for source in (tmp_path / "in", tmp_path / "in" / "0.parquet"):
        if source.is_file() and name != "decimal256":
            continue
        with pytest.raises(TypeError, match=r"column '[dx]' is "):
            nested.nest(source, tmp_path / "out.parquet", by="id")


@pytest.mark.parametrize("command", [pairs.pairs, best.best])
@pytest.mark.parametrize("column", ["prompt", "completion"])
def test_lists_of_texts_in_place_of_rows_point_to_rows(tmp_path, command, column):
    frame = BASE.with_columns(pl.Series(column, [["x", "y"], ["z", "w"]]))
    with pytest.raises(TypeError, match=rf"column '{column}' .*list.*`gspo-rs explode`"):
        command(frame, tmp_path / "out.parquet", by="id")
    assert not (tmp_path / "out.parquet").exists()
