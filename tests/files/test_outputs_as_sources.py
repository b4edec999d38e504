"""Narrow outputs and selections given to every verb: the rows that they stand for, or an error."""

import os
import shutil

import polars as pl
import pytest

import gspo_rs as gs
from gspo_rs import data
from gspo_rs.data.source import locate
from gspo_rs.files import nested, summary

FRAME = pl.DataFrame(
    {
        "id": ["a", "b", "a", "b", "a", "c"],
        "prompt": ["p", "q", "p", "q", "p", "r"],
        "completion": ["x", "y", "zz", "", "ü", "w"],
        "reward": [0.0, 1.0, 1.0, None, 0.5, 0.5],
        "truth": ["1", "2", "1", "2", "1", "3"],
    }
)
SUFFIXES = {"parquet": pl.DataFrame.write_parquet, "jsonl": pl.DataFrame.write_ndjson}
VERBS = {
    "stats": lambda source, _: [one.to_dict() for one in summary.summarize(source, by="id")],
    "pairs": lambda source, _: gs.pairs(source, by="id").to_dicts(),
    "best": lambda source, _: gs.best(source, by="id").to_dicts(),
    "nest": lambda source, _: gs.nest(source, by="id", once=["prompt"]).to_dicts(),
    "filter": lambda source, _: gs.filter(source, by="id", keep="informative").to_dicts(),
    "verl": lambda source, _: gs.verl(
        source, by="id", ground_truth="truth", data_source="mine"
    ).to_dicts(),
    "scan": lambda source, _: gs.scan(source).collect().to_dicts(),
    "data.scan": lambda source, _: data.scan(source).collect().to_dicts(),
    "rollouts": lambda source, _: [
        (batch.prompts, batch.completions, batch.reward.tolist(), batch.group_ids)
        for batch in data.rollouts(source, by="id")
    ],
    "prompts": lambda source, _: data.prompts(source, columns=["truth"]).texts,
    "report": lambda source, folder: gs.report(source, folder / "page.html", by="id").is_file(),
}


def parts(folder, suffix, frame=FRAME):
    folder.mkdir(parents=True, exist_ok=True)
    for number, part in enumerate((frame[:2], frame[2:])):
        SUFFIXES[suffix](part, folder / f"{number}.{suffix}")
    return folder


def narrow(folder, suffix):
    source = parts(folder / "in", suffix)
    gs.score(source, folder / "narrow", by="id", layout="narrow")
    gs.score(source, folder / "wide", by="id")
    return folder / "narrow", gs.scan(folder / "wide").collect()


def kept(folder, suffix):
    source = parts(folder / "in", suffix)
    gs.score(source, folder / "narrow", by="id", layout="narrow", keep="informative")
    gs.score(source, folder / "wide", by="id", keep="informative")
    return folder / "narrow", gs.scan(folder / "wide").collect()


def selection(folder, suffix):
    source = parts(folder / "in", suffix)
    options = {"by": "id", "keep": "informative,scored", "layout": "narrow"}
    gs.filter(source, folder / "chosen.parquet", **options)
    return folder / "chosen.parquet", FRAME.filter(pl.col("id") == "a")


def same(found, expected):
    if isinstance(found, list) and found and isinstance(found[0], dict):
        assert [dict(sorted(row.items())) for row in found] == [
            dict(sorted(row.items())) for row in expected
        ]
    else:
        assert repr(found) == repr(expected)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("make", [narrow, kept, selection])
def test_every_verb_reads_the_rows_that_it_stands_for(make, suffix, tmp_path):
    source, expected = make(tmp_path, suffix)
    for verb in VERBS.values():
        (tmp_path / "page.html").unlink(missing_ok=True)
        found = verb(source, tmp_path)
        (tmp_path / "page.html").unlink(missing_ok=True)
        same(found, verb(expected, tmp_path))


def test_scores_of_scores_are_those_of_their_rows(tmp_path):
    source, expected = selection(tmp_path, "parquet")
    gs.score(source, tmp_path / "out", by="id")
    gs.score(expected, tmp_path / "expected", by="id")
    found, wanted = (gs.scan(tmp_path / name).collect() for name in ("out", "expected"))
    assert found.to_dicts() == wanted.to_dicts()


def test_a_wide_output_is_read_as_its_files(tmp_path):
    gs.score(parts(tmp_path / "in", "parquet"), tmp_path / "out", by="id")
    located = locate(tmp_path / "out")
    assert len(located.files) == 2
    assert located.frame.collect().equals(gs.scan(tmp_path / "out").collect())


def test_a_row_of_lists_behind_a_selection_is_exploded(tmp_path):
    lists = FRAME.group_by("id", maintain_order=True).agg(pl.all())
    lists.write_parquet(tmp_path / "in.parquet")
    from gspo_rs.files.selection import write_selection

    write_selection(tmp_path / "chosen.parquet", tmp_path / "in.parquet", [0, 2], 3)
    found = nested.explode(tmp_path / "chosen.parquet")
    assert found["completion"].to_list() == ["x", "zz", "ü", "w"]


@pytest.mark.parametrize("make", [narrow, selection])
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.unlink(), r"1\.jsonl"),
        (lambda path: path.write_text('{"id": "a"}\n'), r"1\.jsonl"),
        (lambda path: os.utime(path, (1, 1)), r"1\.jsonl has changed"),
    ],
)
def test_a_file_behind_that_is_gone_or_changed_is_named(make, damage, words, tmp_path):
    source, _ = make(tmp_path, "jsonl")
    damage(tmp_path / "in" / "1.jsonl")
    if make is selection and "has changed" in words:
        assert data.scan(source).collect().height == 3  # its bytes are the same
        return
    for verb in VERBS.values():
        with pytest.raises((ValueError, OSError), match=words):
            verb(source, tmp_path)


def test_a_damaged_file_of_scores_is_named(tmp_path):
    source, _ = narrow(tmp_path, "parquet")
    pl.DataFrame({"rank": [1.0]}).write_parquet(source / "1.parquet")
    for verb in VERBS.values():
        with pytest.raises(ValueError, match=r"narrow.1\.parquet has changed: .* score again"):
            verb(source, tmp_path)


def test_parts_of_a_narrow_output_are_not_read_by_themselves(tmp_path):
    source, _ = narrow(tmp_path, "parquet")
    words = r"0\.parquet is part of .*narrow, a narrow output .*; give .*narrow by itself"
    for given in (
        source / "0.parquet",
        f"{source}/0*",
        [source / "0.parquet", source / "1.parquet"],
    ):
        with pytest.raises(ValueError, match=words):
            data.scan(given)


def test_a_selection_among_other_files_is_refused(tmp_path):
    source, _ = selection(tmp_path, "parquet")
    with pytest.raises(ValueError, match=r"chosen\.parquet is a selection, which has row numbers"):
        data.scan([tmp_path / "in" / "0.parquet", source])


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("make", [narrow, selection])
def test_a_file_behind_is_never_the_target(make, suffix, tmp_path):
    source, _ = make(tmp_path, suffix)
    target = tmp_path / "in" / f"1.{suffix}"
    before = target.read_bytes()
    with pytest.raises(ValueError, match="is one of the files to read; write to another one"):
        gs.best(source, target, by="id", overwrite=True)
    assert target.read_bytes() == before


def test_a_file_of_lists_behind_is_never_the_target(tmp_path):
    from gspo_rs.files.selection import write_selection

    lists = FRAME.group_by("prompt", maintain_order=True).agg(pl.all().exclude("prompt"))
    lists.write_ndjson(tmp_path / "in.jsonl")
    write_selection(tmp_path / "chosen.parquet", tmp_path / "in.jsonl", [0, 1], 3)
    before = (tmp_path / "in.jsonl").read_bytes()
    assert gs.best(tmp_path / "chosen.parquet").height == 2
    with pytest.raises(ValueError, match="is one of the files to read; write to another one"):
        gs.best(tmp_path / "chosen.parquet", tmp_path / "in.jsonl", overwrite=True)
    assert (tmp_path / "in.jsonl").read_bytes() == before


def test_rows_are_chosen_only_of_files_that_have_them(tmp_path):
    source, _ = narrow(tmp_path, "parquet")
    with pytest.raises(ValueError, match=r"narrow is no file; .* write the rows themselves"):
        gs.filter(source, tmp_path / "c.parquet", by="id", keep="scored", layout="narrow")


def test_an_output_that_moved_with_its_rows_in_place_is_still_read(tmp_path):
    source, expected = narrow(tmp_path, "parquet")
    shutil.move(source, tmp_path / "moved")
    assert gs.scan(tmp_path / "moved").collect().to_dicts() == expected.to_dicts()
