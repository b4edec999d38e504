"""Files found, told apart, checked and read; damage named by file."""

import polars as pl
import pytest

from fixtures import formats
from gspo_rs import data

WRITERS = formats.WRITERS | {".ndjson": pl.DataFrame.write_ndjson}
FRAME = pl.DataFrame({"prompt": ["a", "b"], "reward": [0.0, 1.0]})


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_format_is_told_by_its_suffix_in_any_case(tmp_path, suffix):
    for name in (f"a{suffix}", f"b{suffix.upper()}"):
        WRITERS[suffix](FRAME, tmp_path / name)
        assert data.scan(tmp_path / name).collect().equals(FRAME)


def test_a_glob_is_read_in_the_order_of_the_names_and_a_list_in_its_own(tmp_path):
    for name in ("b", "a", "c"):
        FRAME.with_columns(file=pl.lit(name)).write_parquet(tmp_path / f"{name}.parquet")
    files = data.scan(f"{tmp_path}/*.parquet").collect()["file"].unique(maintain_order=True)
    assert files.to_list() == ["a", "b", "c"]
    listed = data.scan([tmp_path / "c.parquet", f"{tmp_path}/[ab].parquet"]).collect()
    assert listed["file"].unique(maintain_order=True).to_list() == ["c", "a", "b"]


def test_brackets_in_a_name_are_not_taken_for_a_glob(tmp_path):
    path = tmp_path / "run[1].parquet"
    FRAME.write_parquet(path)
    assert data.scan(path).collect().equals(FRAME)


def test_a_column_that_is_null_in_the_first_thousand_lines_has_its_type(tmp_path):
    lines = ['{"prompt": "a", "answer": null}'] * 1000 + ['{"prompt": "b", "answer": 7}']
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    assert data.scan(tmp_path / "a.jsonl").collect()["answer"][-1] == 7


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("gone.parquet", FileNotFoundError, r"no such file: .*gone\.parquet"),
        ("*.parquet", FileNotFoundError, r"no file matches .*\*\.parquet"),
        ("", FileNotFoundError, r"no file below .* is one of \.parquet"),
        ("notes.txt", ValueError, r"format of .*notes\.txt' by its suffix; known: \.parquet"),
    ],
)
def test_what_is_not_there_or_not_data_is_named(tmp_path, name, error, words):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(error, match=words):
        data.scan(f"{tmp_path}/{name}" if name else tmp_path)


def test_files_of_several_formats_and_an_empty_list_are_refused(tmp_path):
    FRAME.write_parquet(tmp_path / "a.parquet")
    FRAME.write_csv(tmp_path / "b.csv")
    with pytest.raises(ValueError, match=r"several formats, \.csv, \.parquet"):
        data.scan(f"{tmp_path}/*")
    with pytest.raises(ValueError, match="list of files is empty"):
        data.scan([])


def damaged(kind, whole):
    middle = len(whole) // 3
    return {
        "empty": b"",
        "text": b"this is no Parquet file " * 9,
        "short": whole[:-9],
        "overwritten": whole[:middle] + b"\xff" * 3000 + whole[middle + 3000 :],
    }[kind]


@pytest.mark.parametrize("kind", ["empty", "text", "short", "overwritten"])
@pytest.mark.parametrize("shuffle", [False, True])
def test_a_damaged_file_among_sound_ones_is_named(tmp_path, shared, kind, shuffle):
    frame = pl.read_parquet(shared / "data/rg_policy3.parquet", n_rows=3000).sort("prompt_id")
    for name in ("a", "b", "c"):
        frame.write_parquet(tmp_path / f"{name}.parquet")
    index = data.index_groups(f"{tmp_path}/*.parquet", by="prompt_id")
    bad = tmp_path / "b.parquet"
    bad.write_bytes(damaged(kind, bad.read_bytes()))
    with pytest.raises(OSError, match=r"cannot read .*b\.parquet: \w+"):
        # The index is given, so that the damage is met while the texts stream by.
        list(
            data.rollouts(
                f"{tmp_path}/*.parquet",
                by="prompt_id",
                completion="response",
                census=index,
                shuffle=shuffle,
            )
        )


def test_a_line_that_is_no_json_is_an_error_that_names_the_file(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"prompt": "a"}\n{"prompt": \n')
    with pytest.raises(OSError, match=r"cannot read .*a\.jsonl: "):
        data.prompts(tmp_path / "a.jsonl")


@pytest.mark.parametrize("shuffle", [False, True])
def test_what_python_code_in_a_lazyframe_raises_is_told(shuffle):
    def fail(values: pl.Series) -> pl.Series:
        raise KeyError("boom")

    lazy = FRAME.lazy().with_columns(
        id=1, completion=pl.col("prompt").map_batches(fail, return_dtype=pl.String)
    )
    with pytest.raises((KeyError, OSError), match="boom"):
        list(data.rollouts(lazy, by="id", shuffle=shuffle))
