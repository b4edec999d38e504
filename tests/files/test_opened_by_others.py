"""What our verbs write, opened in other libraries by the call that comes to mind: same values."""

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import gspo_rs as gs
from fixtures import other_readers

FRAME = pl.DataFrame(
    {
        "prompt_id": ["a", "b", "a", "b", "a", "c"],
        "prompt": ["1+1=", "2+2=", "1+1=", "2+2=", "1+1=", "3+3="],
        "completion": ["two", "four", "three", "five", "zwölf", "six"],
        "reward": [1.0, 1.0, 0.0, 0.5, 0.5, 1.0],
        "truth": ["two", "four", "two", "four", "two", "six"],
    }
)
LISTS = FRAME.group_by("prompt_id", maintain_order=True).agg("completion", "reward")
# Each verb that writes one file, from the frame.
VERBS = {
    "best": lambda target: gs.best(FRAME, target, by="prompt_id"),
    "pairs": lambda target: gs.pairs(FRAME, target, by="prompt_id"),
    "filter": lambda target: gs.filter(FRAME, target, by="prompt_id", keep="informative"),
    "nest": lambda target: gs.nest(FRAME, target, by="prompt_id", once=["prompt", "truth"]),
    "explode": lambda target: gs.explode(LISTS, target),
    "verl": lambda target: gs.verl(
        FRAME, target, by="prompt_id", ground_truth="truth", data_source="sums"
    ),
    "scan": lambda target: gs.scan(FRAME, target),
}


def same(found, expected):
    assert_frame_equal(
        found.sort("completion"), expected.sort("completion"), check_column_order=False
    )


def parts(folder):
    folder.mkdir()
    FRAME[:2].write_parquet(folder / "0.parquet")
    FRAME[2:].write_parquet(folder / "z.parquet")
    return folder


@pytest.mark.parametrize("reader", other_readers.FOLDERS)
@pytest.mark.parametrize("keep", ["all", "informative"])
def test_a_scored_folder_opens_in_other_libraries(tmp_path, reader, keep):
    gs.score(parts(tmp_path / "in"), tmp_path / "out", by="prompt_id", keep=keep)
    found = other_readers.FOLDERS[reader](tmp_path / "out", tmp_path / "cache")
    same(found, gs.scan(tmp_path / "out").collect())
    assert found.height == (6 if keep == "all" else 5)


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
@pytest.mark.parametrize("verb", VERBS)
def test_a_file_of_a_verb_opens_in_other_libraries(tmp_path, verb, suffix):
    target = tmp_path / f"out.{suffix}"
    VERBS[verb](target)
    expected = gs.scan(target).collect().to_dicts()
    readers = other_readers.PARQUET if suffix == "parquet" else other_readers.JSONL
    found = {name: read(target, tmp_path / name).to_dicts() for name, read in readers.items()}
    assert expected
    assert found == dict.fromkeys(readers, expected)
