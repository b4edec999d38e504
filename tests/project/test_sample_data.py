"""The sample data of the guides are what their script writes, and are small."""

import gzip
import runpy

import polars as pl
import pytest

from fixtures.places import ROOT

DATA = ROOT / "examples" / "data"
READERS = {
    ".parquet": pl.read_parquet,
    ".arrow": pl.read_ipc_stream,
    ".gz": lambda file: gzip.decompress(file.read_bytes()).decode(),
}
FILES = sorted(str(file.relative_to(DATA)) for file in DATA.rglob("*") if file.is_file())


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    runpy.run_path(str(ROOT / "examples" / "make_data.py"))["write"](folder)
    return folder


def content(file):
    """What a file holds: how it is packed may change with Polars and zlib."""
    found = READERS.get(file.suffix, lambda text: text.read_text())(file)
    return (found.schema, found.rows()) if isinstance(found, pl.DataFrame) else found


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_the_sample_data_is_what_its_script_writes(written, name):
    assert content(DATA / name) == content(written / name)


def test_the_script_writes_no_other_files_and_no_big_ones(written):
    found = sorted(str(file.relative_to(written)) for file in written.rglob("*") if file.is_file())
    assert found == FILES
    assert sum((DATA / name).stat().st_size for name in FILES) < 300_000


def test_the_sample_data_have_hard_and_easy_prompts_ties_and_completions_without_a_reward():
    rows = pl.read_parquet(DATA / "completions")
    right = rows.group_by("prompt_id").agg((pl.col("reward") == 1).mean())["reward"]
    assert right.min() == 0
    assert right.max() == 1
    assert right.is_between(0.1, 0.9).mean() > 0.5
    assert 0 < rows["reward"].null_count() < 20
    assert rows.n_unique("model") == 2
    assert rows.group_by("task").agg(pl.n_unique("prompt"))["prompt"].to_list() == [16] * 3
