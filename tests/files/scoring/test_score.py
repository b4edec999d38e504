"""Scoring files: the bits of the array functions, in the rows and the order of the input."""

import datetime
from decimal import Decimal

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gspo_rs as gs
from fixtures.formats import write
from gspo_rs.files.scoring import options

FILES = [
    "rg_easy",
    "wildbench_judge10",
    "rg_policy3",
    "llama3b_amc_aime50",
    "tot_game24_200",
    "gsm8k_solutions4",
    "qwen_math_rm8",
    "wmt21_ted_zhen_mqm",
]
COLUMNS = ["rank", "percentile", "advantage", "group_size", "group_mean", "group_std"]


def expected(frame, by, estimator="percentile", **given):
    """The columns of scores by the array functions."""
    ids = frame[by] if isinstance(by, str) else frame.select(by)
    groups = gs.Groups(ids)
    rewards = frame["reward"].cast(pl.Float64).fill_null(np.nan).to_numpy()
    told, code = gs.stats(rewards, groups), groups.codes
    return {
        "rank": gs.rank(rewards, groups),
        "percentile": gs.percentile(rewards, groups),
        "advantage": gs.advantage(rewards, groups, estimator, **given),
        "group_size": told.size[code].astype(float),
        "group_mean": told.mean[code],
        "group_std": told.std[code],
    }


def assert_scored(found, frame, by, estimator="percentile", **given):
    assert found.columns == [*frame.columns, *COLUMNS]
    assert found.select(frame.columns).equals(frame)
    for name, values in expected(frame, by, estimator, **given).items():
        column = found[name].cast(pl.Float64)
        assert np.array_equal(column.fill_null(np.nan).to_numpy(), values, equal_nan=True), name
        assert column.null_count() == np.isnan(values).sum(), name


def shuffled(n, seed=0):
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, n // 8 + 1, n)
    reward = np.where(rng.random(n) < 0.1, np.nan, rng.integers(0, 5, n) / 4)
    text = [f"text {i}" for i in range(n)]
    return pl.DataFrame({"prompt_id": ids, "completion": text, "reward": reward})


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["wide", "narrow"])
@pytest.mark.parametrize("by", ["prompt_id", ["source", "prompt_id"]], ids=["one key", "two keys"])
@pytest.mark.parametrize("name", FILES)
def test_real_files_get_the_bits_of_the_array_functions(shared, tmp_path, name, by, layout):
    path = shared / "data" / f"{name}.parquet"
    report = gs.score(path, tmp_path / "out", by=by, layout=layout)
    frame = pl.read_parquet(path)
    assert report.rows == report.kept == frame.height
    assert_scored(gs.scan(tmp_path / "out").collect(), frame, by)
    assert len(gs.verify(tmp_path / "out").outputs) == 1


@pytest.mark.parametrize("layout", ["wide", "narrow"])
def test_groups_may_lie_in_several_files_each_of_which_keeps_its_name(tmp_path, layout):
    frame = shuffled(1000)
    (tmp_path / "in" / "deep").mkdir(parents=True)
    frame[:300].write_parquet(tmp_path / "in" / "a.parquet")
    frame[300:300].write_parquet(tmp_path / "in" / "b.parquet")
    frame[300:].write_parquet(tmp_path / "in" / "deep" / "c.parquet")
    gs.score(tmp_path / "in", tmp_path / "out", by="prompt_id", layout=layout)
    names = [entry.name for entry in gs.verify(tmp_path / "out").outputs]
    assert names == ["a.parquet", "b.parquet", "deep/c.parquet"]
    assert_scored(gs.scan(tmp_path / "out").collect(), frame, "prompt_id")


@pytest.mark.parametrize("layout", ["wide", "narrow"])
@pytest.mark.parametrize("by", ["prompt_id", ["prompt_id", "completion"]])
def test_rows_that_go_through_the_disk_get_the_same_bits(tmp_path, monkeypatch, layout, by):
    frame = shuffled(5000)
    frame[:2000].write_parquet(tmp_path / "a.parquet")
    frame[2000:].write_parquet(tmp_path / "b.parquet")
    # So little that every window and partition is used.
    monkeypatch.setattr(options, "BUFFERS", options.LEAST - (16 << 10))
    reports = {}
    for limit in (options.LEAST, "1GiB"):
        target = tmp_path / str(limit)
        reports[limit] = gs.score(
            tmp_path / "*.parquet", target, by=by, layout=layout, memory_limit=limit
        )
        assert_scored(gs.scan(target).collect(), frame, by)
    assert [report.spilled for report in reports.values()] == [True, False]
    assert len({(r.groups, r.uninformative, r.kept) for r in reports.values()}) == 1
    outputs = [gs.verify(tmp_path / str(limit)).outputs for limit in reports]
    assert outputs[0] == outputs[1]


@settings(max_examples=30)
@given(
    rows=st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from([None, 0.0, -0.0, 1.0, 2.5])),
        min_size=1,
        max_size=60,
    ),
    cut=st.integers(0, 60),
)
def test_any_rows_cut_anywhere_get_the_bits_of_the_array_functions(tmp_path_factory, rows, cut):
    folder = tmp_path_factory.mktemp("cut")
    schema = {"prompt_id": pl.String, "reward": pl.Float64}
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    frame[:cut].write_parquet(folder / "a.parquet")
    frame[cut:].write_parquet(folder / "b.parquet")
    gs.score(folder / "*.parquet", folder / "out", by="prompt_id", estimator="zscore")
    assert_scored(gs.scan(folder / "out").collect(), frame, "prompt_id", "zscore")


@pytest.mark.parametrize(
    ("estimator", "given"),
    [
        ("percentile", {"scale": "none"}),
        ("percentile", {"ties": "ordinal"}),
        ("percentile", {"pool": [0.0, 0.5, 1.0]}),
        ("normal", {"scores": "blom"}),
        ("pass_at_k", {"k": 2}),
        ("maxrl", {}),
        ("batch_std", {}),
        ("reinforce_pp", {"eps": 1e-4}),
    ],
)
def test_every_estimator_of_one_reward_can_be_asked_for(tmp_path, estimator, given):
    frame = shuffled(400)
    gs.score(frame, tmp_path / "out", by="prompt_id", estimator=estimator, **given)
    found = gs.scan(tmp_path / "out").collect()
    assert_scored(found, frame, "prompt_id", estimator, **given)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".arrow"])
@pytest.mark.parametrize("layout", ["wide", "narrow"])
def test_other_formats_are_scored_and_become_parquet(tmp_path, suffix, layout):
    frame = shuffled(500).with_columns(pl.col("reward").fill_nan(None))
    path = write(frame, tmp_path / f"rows{suffix}")
    gs.score(path, tmp_path / "out", by="prompt_id", layout=layout)
    assert (tmp_path / "out" / "rows.parquet").is_file()
    assert_scored(gs.scan(tmp_path / "out").collect(), frame, "prompt_id")


def test_hive_folders_may_name_the_group(tmp_path):
    frame = shuffled(400).with_columns(source=pl.Series(["x", "y"] * 200))
    for (source,), part in frame.group_by("source"):
        folder = tmp_path / "in" / f"source={source}"
        folder.mkdir(parents=True)
        part.drop("source").write_parquet(folder / "part.parquet")
    by = ["source", "prompt_id"]
    gs.score(tmp_path / "in", tmp_path / "out", by=by)
    rows = pl.concat([frame.filter(source="x"), frame.filter(source="y")])
    found = gs.scan(tmp_path / "out").collect().select(*rows.columns, *COLUMNS)
    assert_scored(found, rows, by)


@pytest.mark.parametrize("layout", ["wide", "narrow"])
def test_an_address_is_read_by_polars(tmp_path, layout):
    frame = shuffled(100)
    frame.write_parquet(tmp_path / "a.parquet")
    gs.score(f"file://{tmp_path}/a.parquet", tmp_path / "out", by="prompt_id", layout=layout)
    assert_scored(gs.scan(tmp_path / "out").collect(), frame, "prompt_id")


@pytest.mark.parametrize("layout", ["wide", "narrow"])
@pytest.mark.parametrize("keep", ["informative", "informative,best:1", "top:0.25"])
def test_chosen_rows_are_those_that_the_rules_choose(tmp_path, keep, layout):
    from gspo_rs.files.filters import filter_rows, parse

    frame = shuffled(2000)
    frame.write_parquet(tmp_path / "a.parquet")
    report = gs.score(
        tmp_path / "a.parquet", tmp_path / "out", by="prompt_id", keep=keep, layout=layout
    )
    groups = gs.Groups(frame["prompt_id"])
    chosen = filter_rows(frame["reward"].to_numpy(), groups, parse(keep))
    gs.score(tmp_path / "a.parquet", tmp_path / "all", by="prompt_id")
    whole = gs.scan(tmp_path / "all").collect()
    found = gs.scan(tmp_path / "out").collect()
    assert found.equals(whole.filter(pl.Series(chosen.mask)), null_equal=True)
    assert report.kept == chosen.mask.sum()
    assert report.dropped == chosen.dropped


def every_type():
    zone = datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC)
    return pl.DataFrame(
        {
            "prompt_id": pl.Series(["a", "b", "a"], dtype=pl.Categorical),
            "reward": pl.Series([0.0, 1.0, 1.0], dtype=pl.Float32),
            "enum": pl.Series(["x", None, "y"], dtype=pl.Enum(["x", "y"])),
            "nested": [{"a": [1, None], "b": {"c": "é"}}, None, {"a": [], "b": None}],
            "list": [[[1.5], []], None, [[None]]],
            "array": pl.Series([[1, 2], [3, 4], None], dtype=pl.Array(pl.Int16, 2)),
            "binary": [b"\x00\xff", b"", None],
            "decimal": pl.Series([Decimal("1.20"), None, Decimal(-7)], dtype=pl.Decimal(20, 2)),
            "zoned": pl.Series([zone, None, zone]).dt.convert_time_zone("Asia/Kolkata"),
            "day": [datetime.date(1960, 1, 1), None, datetime.date(2200, 1, 1)],
            "time": [datetime.time(1, 2, 3, 4), None, datetime.time(0)],
            "duration": [datetime.timedelta(microseconds=-1), None, datetime.timedelta(days=9)],
            "small": pl.Series([1, None, 255], dtype=pl.UInt8),
            "large": pl.Series([2**64 - 1, None, 0], dtype=pl.UInt64),
            "none": [None, None, None],
        }
    )


@pytest.mark.parametrize("keep", ["all", "size:1.."], ids=["copied", "rewritten"])
def test_every_type_survives(tmp_path, keep):
    frame = every_type()
    frame.write_parquet(tmp_path / "a.parquet")
    gs.score(tmp_path / "a.parquet", tmp_path / "out", by="prompt_id", keep=keep)
    found = gs.scan(tmp_path / "out").collect().select(frame.columns)
    assert found.schema == frame.schema
    assert found.equals(frame)


def test_column_chunks_of_any_writer_are_copied_byte_for_byte(tmp_path):
    table = pa.table(
        {
            "prompt_id": pa.array(["a", "b"] * 5000).dictionary_encode(),
            "reward": np.arange(10_000) % 7,
            "text": [f"some text {i}" for i in range(10_000)],
            "when": pa.array(range(10_000), pa.timestamp("us", "Europe/Berlin")),
            "price": pa.array([Decimal(i) for i in range(10_000)], pa.decimal128(12, 3)),
            "nested": [{"x": [i]} for i in range(10_000)],
        }
    )
    pq.write_table(table, tmp_path / "a.parquet", compression="snappy", row_group_size=3000)
    gs.score(tmp_path / "a.parquet", tmp_path / "out", by="prompt_id")
    source, scored = tmp_path / "a.parquet", tmp_path / "out" / "a.parquet"
    before, after = pq.read_metadata(source), pq.read_metadata(scored)
    assert after.num_row_groups == before.num_row_groups
    for group in range(before.num_row_groups):
        for column in range(before.num_columns):
            chunks = [meta.row_group(group).column(column) for meta in (before, after)]
            assert chunk_bytes(source, chunks[0]) == chunk_bytes(scored, chunks[1])
    assert pq.read_table(scored).select(table.column_names).equals(table)
    assert pq.read_schema(scored).field("when").type == pa.timestamp("us", "Europe/Berlin")


def chunk_bytes(path, chunk):
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    return path.read_bytes()[start : start + chunk.total_compressed_size]


def test_the_digest_of_an_output_is_the_xxh128_of_its_bytes(tmp_path):
    xxhash = pytest.importorskip("xxhash")
    gs.score(shuffled(100), tmp_path / "out", by="prompt_id", layout="narrow")
    (entry,) = gs.verify(tmp_path / "out").outputs
    content = (tmp_path / "out" / entry.name).read_bytes()
    assert entry.digest == xxhash.xxh3_128_hexdigest(content)
    assert entry.size == len(content)


def test_an_output_that_is_asked_for_again_is_not_made_again(tmp_path):
    shuffled(100).write_parquet(tmp_path / "a.parquet")
    first = gs.score(tmp_path / "a.parquet", tmp_path / "out", by="prompt_id")
    before = (tmp_path / "out" / "a.parquet").stat().st_ino
    again = gs.score(tmp_path / "a.parquet", tmp_path / "out", by="prompt_id")
    assert (first.skipped, again.skipped) == (0, 1)
    assert (tmp_path / "out" / "a.parquet").stat().st_ino == before


def test_only_the_output_is_left_beside_its_source(tmp_path):
    shuffled(100).write_parquet(tmp_path / "a.parquet")
    gs.score(tmp_path / "a.parquet", tmp_path / "out", by="prompt_id")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.parquet", "out"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "_manifest.parquet",
        "a.parquet",
    ]
