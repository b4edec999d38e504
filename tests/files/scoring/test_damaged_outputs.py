"""Outputs and sources that were damaged or exchanged after the scoring: noticed when read back."""

import os
import random

import polars as pl
import pyarrow.parquet as pq
import pytest

import gspo_rs as gs
from fixtures.old_outputs import as_before

FRAME = pl.DataFrame(
    {
        "id": [f"p{i // 4}" for i in range(200)],
        "reward": [(i * 5 % 8) / 8 for i in range(200)],
        "text": [f"text {i:03}" for i in range(200)],
    }
)


def write(frame, path):
    if path.suffix == ".jsonl":
        frame.write_ndjson(path)
    else:
        pq.write_table(frame.to_arrow(), path, compression="none", use_dictionary=False)


def scored(tmp_path, layout, suffix=".parquet", keep="all"):
    path = tmp_path / f"rows{suffix}"
    write(FRAME, path)
    gs.score(path, tmp_path / "out", by="id", layout=layout, keep=keep)
    return path


def flipped(path, rng):
    whole = bytearray(path.read_bytes())
    whole[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
    path.write_bytes(whole)


@pytest.mark.parametrize("layout", ["wide", "narrow"])
@pytest.mark.parametrize("keep", ["all", "reward:0.."])
@pytest.mark.parametrize("name", ["rows.parquet", "_manifest.parquet", "manifest.json"])
def test_one_flipped_bit_of_an_output_is_never_read_silently(tmp_path, layout, keep, name):
    scored(tmp_path, layout, keep=keep)
    file = tmp_path / "out" / name
    if name == "manifest.json":
        as_before(tmp_path / "out")
    whole = file.read_bytes()
    for seed in range(40):
        flipped(file, random.Random(seed))
        with pytest.raises((ValueError, OSError), match=name):
            gs.scan(tmp_path / "out")
        file.write_bytes(whole)
    assert gs.scan(tmp_path / "out").collect().select(FRAME.columns).equals(FRAME)


def test_a_manifest_whose_digest_is_gone_is_refused(tmp_path):
    scored(tmp_path, "wide")
    file = as_before(tmp_path / "out")
    lines = file.read_text().splitlines()
    place = next(i for i, line in enumerate(lines) if '"digest"' in line and len(line) > 70)
    kept = [line.rstrip(",") if i == place - 1 else line for i, line in enumerate(lines)]
    file.write_text("\n".join(kept[:place] + kept[place + 1 :]))
    with pytest.raises(ValueError, match=r"manifest\.json"):
        gs.scan(tmp_path / "out")


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
@pytest.mark.parametrize("keep", ["all", "top:0.5"])
def test_narrow_scores_never_join_other_rows_of_the_same_size_and_time(tmp_path, suffix, keep):
    path = scored(tmp_path, "narrow", suffix, keep)
    before = path.stat()
    other = FRAME.with_columns(FRAME["reward"].reverse())
    write(other, path)
    assert path.stat().st_size == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(ValueError, match="other rows than were scored"):
        gs.scan(tmp_path / "out")
