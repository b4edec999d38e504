"""Files of kinds that are not read: named for what they are, with what to do instead."""

import os
import pickle
import sqlite3
import tarfile
import zipfile

import duckdb
import numpy as np
import polars as pl
import pytest
import torch
from safetensors.numpy import save_file

import gspo_rs as gs
from gspo_rs import data

FRAME = pl.DataFrame({"id": ["a"], "reward": [1.0]})


def sqlite(path):
    with sqlite3.connect(path) as connection:
        connection.execute("create table t (a)")


def a_zip(path, *names):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "text")


def a_tar(path):
    (path.parent / "member.txt").write_text("text")
    with tarfile.open(path, "w") as archive:
        archive.add(path.parent / "member.txt", "member.txt")


WRITERS = {
    "sqlite": (sqlite, r"is a SQLite database; .*sqlite3 -header -csv"),
    "pickle": (
        lambda path: path.write_bytes(pickle.dumps({"id": [1]})),
        r"is a pickle, which can run any code .*pandas\.read_pickle\(…\)\.to_parquet",
    ),
    "torch": (
        lambda path: torch.save({"samples": []}, path),
        r"is written by torch\.save: a pickle",
    ),
    "excel": (lambda path: a_zip(path, "xl/workbook.xml"), r"is an Excel workbook; save the sheet"),
    "numpy": (lambda path: np.savez(path.open("wb"), a=np.ones(2)), r"is an archive of NumPy"),
    "zip": (lambda path: a_zip(path, "rows.csv"), r"is a zip archive; unpack it first"),
    "tar": (a_tar, r"is a tar archive; unpack it first"),
    "safetensors": (
        lambda path: save_file({"a": np.ones(2, np.float32)}, path),
        r"is safetensors, which holds tensors",
    ),
    "page": (
        lambda path: path.write_text("\n<!DOCTYPE html><html>404</html>"),
        r"is an HTML page, such as a failed download leaves",
    ),
    "pointer": (
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
        r"is a pointer of Git LFS; .*git lfs pull",
    ),
    "duckdb": (lambda path: duckdb.connect(str(path)).close(), r"is a DuckDB database"),
    "damaged zip": (
        lambda path: path.write_bytes(b"PK\x03\x04cut"),
        r"is a zip archive that is damaged",
    ),
}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("name", ["rows", "rows.bin", "rows.parquet", "rows.jsonl", "rows.csv"])
def test_a_file_of_another_kind_is_named_whatever_its_suffix_says(tmp_path, kind, name):
    write, words = WRITERS[kind]
    path = tmp_path / name
    write(path)
    with pytest.raises(ValueError, match=rf"{name} {words}"):
        data.scan(path)
    with pytest.raises(ValueError, match=words):
        gs.score(path, tmp_path / "out", by="id")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("write", "wrong", "words"),
    [
        (pl.DataFrame.write_parquet, "rows.csv", r"is Parquet; its name has to end in \.parquet"),
        (pl.DataFrame.write_ipc, "rows.pq", r"is Arrow; its name has to end in \.arrow"),
        (pl.DataFrame.write_parquet, "rows", r"is Parquet; its name has to end in \.parquet"),
    ],
)
def test_a_known_kind_under_a_wrong_name_is_named(tmp_path, write, wrong, words):
    write(FRAME, tmp_path / wrong)
    with pytest.raises(ValueError, match=words):
        data.scan(tmp_path / wrong)


def test_packed_text_without_its_suffix_is_named(tmp_path):
    FRAME.write_ndjson(tmp_path / "rows.jsonl", compression="gzip", check_extension=False)
    with pytest.raises(ValueError, match=r"is packed with gzip; its name has to end in \.gz"):
        data.scan(tmp_path / "rows.jsonl")


def test_a_pickle_is_refused_by_its_name_alone(tmp_path):
    (tmp_path / "rows.pkl").write_bytes(b"I1\n.")
    with pytest.raises(ValueError, match=r"rows\.pkl is a pickle"):
        data.scan(tmp_path / "rows.pkl")


@pytest.mark.parametrize("name", ["PAR1", "ORC", "BZh9", "%PDF-1.4", "Rar!", "<a>"])
def test_a_header_that_begins_like_another_kind_is_a_header(tmp_path, name):
    (tmp_path / "rows.csv").write_text(f"{name},reward\nx,1\n")
    assert data.scan(tmp_path / "rows.csv").collect().columns == [name, "reward"]


def test_a_pipe_is_refused_with_what_stands_for_it(tmp_path):
    os.mkfifo(tmp_path / "rows.jsonl")
    with pytest.raises(ValueError, match=r"is a pipe or a device, .* give - and JSON Lines"):
        data.scan(tmp_path / "rows.jsonl")
