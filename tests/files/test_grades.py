"""Every verb reads grades as if they were a column of the rows."""

import logging

import polars as pl
import pytest

import gspo_rs as gs
from fixtures.commands import call
from fixtures.formats import WRITERS, write
from fixtures.graded import write_grades
from gspo_rs import data
from gspo_rs.files import summary
from gspo_rs.files.grades import graded
from gspo_rs.files.parts import part_name, parts_in
from gspo_rs.files.selection import apply, read_selection

ROWS = pl.DataFrame(
    {
        "id": ["a", "b", "a", "b", "a", "c", "c"],
        "sample": [0, 0, 1, 1, 2, 0, 1],
        "prompt": ["p", "q", "p", "q", "p", "r", "r"],
        "completion": ["x", "y", "zz", "", "ü", "w", "v"],
    }
)
REWARDS = [0.0, 1.0, 1.0, None, 0.5, 0.5, 2.0]
EXPECTED = ROWS.with_columns(pl.Series("reward", REWARDS))
KEYS = {"by": ["id"], "key": ["sample"], "keys": ROWS.select("id", "sample")}
VERBS = {
    "stats": lambda source: [one.to_dict() for one in summary.summarize(source, by="id")],
    "pairs": lambda source: gs.pairs(source, by="id").to_dicts(),
    "best": lambda source: gs.best(source, by="id").to_dicts(),
    "filter": lambda source: gs.filter(
        source, by="id", keep="informative", columns=[*ROWS.columns, "reward"]
    ).to_dicts(),
    "rollouts": lambda source: [
        (batch.prompts, batch.completions, str(batch.reward.tolist()), batch.group_ids)
        for batch in data.rollouts(source, by="id")
    ],
}


@pytest.fixture(params=WRITERS)
def rows(tmp_path, request):
    """Two files of rows, in every format."""
    for name, part in (("x", ROWS[:2]), ("y", ROWS[2:])):
        write(part, tmp_path / "in" / f"{name}{request.param}")
    return sorted((tmp_path / "in").iterdir())


@pytest.fixture
def two(tmp_path):
    (tmp_path / "in").mkdir()
    files = [tmp_path / "in" / name for name in ("x.parquet", "y.parquet")]
    for file, part in zip(files, (ROWS[:2], ROWS[2:]), strict=True):
        part.write_parquet(file)
    return files


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_makes_of_grades_what_it_makes_of_a_column(tmp_path, rows, verb):
    out = write_grades(tmp_path / "out", rows, REWARDS)
    assert VERBS[verb](graded(tmp_path / "in", out)) == VERBS[verb](EXPECTED)


def test_scores_of_grades_are_those_of_a_column_and_have_it(tmp_path, rows):
    out = write_grades(tmp_path / "out", rows, REWARDS)
    gs.score(graded(tmp_path / "in", out), tmp_path / "scored", by="id")
    gs.score(EXPECTED, tmp_path / "expected", by="id")
    found, expected = (gs.scan(tmp_path / name).collect() for name in ("scored", "expected"))
    assert found.select(expected.columns).equals(expected)


def test_scores_that_are_read_beside_files_are_refused_with_what_to_do(tmp_path, two):
    source = graded(two, write_grades(tmp_path / "out", two, REWARDS))
    with pytest.raises(ValueError, match="score the folder of the grades itself"):
        gs.score(source, tmp_path / "scored", by="id", layout="narrow")


def test_the_folder_of_grades_is_a_source_by_itself_which_has_no_text(tmp_path, two):
    out = write_grades(tmp_path / "out", two, REWARDS, **KEYS)
    gs.score(out, tmp_path / "scored", by="id", layout="narrow")
    gs.score(EXPECTED, tmp_path / "expected", by="id")
    found, expected = (gs.scan(tmp_path / name).collect() for name in ("scored", "expected"))
    assert found["percentile"].equals(expected["percentile"])
    assert not {"prompt", "completion"} & {*found.columns}


def test_a_selection_by_grades_is_of_the_files_and_needs_no_grades_afterwards(tmp_path, two):
    source = graded(two, write_grades(tmp_path / "out", two, REWARDS))
    gs.filter(source, tmp_path / "s.parquet", by="id", keep="reward:1..", layout="narrow")
    found = apply(read_selection(tmp_path / "s.parquet")).collect()
    assert found.equals(ROWS.filter(pl.Series(REWARDS) >= 1))


def test_single_rewards_are_columns_too(tmp_path, two):
    rewards = {"right": [1.0] * 6 + [0.0], "short": [0.25] * 7}
    found = graded(two, write_grades(tmp_path / "out", two, rewards)).frame.collect()
    assert found["reward"].to_list() == [1.25] * 6 + [0.25]
    assert found["reward_right"].to_list() == rewards["right"]
    assert found.columns == [*ROWS.columns, "reward", "reward_right", "reward_short"]


def test_a_column_of_the_rows_that_grades_replace_is_named(tmp_path, caplog):
    file = tmp_path / "old.parquet"
    ROWS.with_columns(pl.lit("bad").alias("reward")).write_parquet(file)
    out = write_grades(tmp_path / "out", [file], REWARDS)
    with caplog.at_level(logging.INFO, logger="gspo_rs"):
        found = graded(file, out).frame.collect()
    assert found["reward"].to_list() == REWARDS
    assert f"'reward' of {out}, and not that of {file}" in caplog.text


def test_rows_of_other_files_are_found_by_their_keys(tmp_path, two):
    out = write_grades(tmp_path / "out", two, REWARDS, **KEYS)
    moved = EXPECTED[[6, 2, 0, 3]]
    found = graded(moved.drop("reward"), out).frame.collect()
    assert found.select(moved.columns).equals(moved)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda frame: frame.with_columns(pl.lit(9).alias("sample")), "key .* is at rows 0 and 2"),
        (lambda frame: frame[[0, 0]], "key .*'a', 0.* is at rows 0 and 1"),
        (
            lambda frame: frame.with_columns(pl.col("sample") + 1),
            r"row 3 of .*key \('b', 2\), has no grade in .* \(nor have 2 more\)",
        ),
        (lambda frame: frame.drop("sample"), "has no column 'sample'"),
        (lambda frame: frame.cast({"sample": pl.String}), "key 'sample' is String in .* and Int64"),
    ],
)
def test_keys_that_do_not_lead_to_one_grade_are_refused(tmp_path, two, change, error):
    out = write_grades(tmp_path / "out", two, REWARDS, **KEYS)
    with pytest.raises((ValueError, TypeError), match=error):
        graded(change(ROWS), out)


@pytest.mark.parametrize("change", ["more rows", "fewer files", "touched", "in memory"])
def test_without_keys_other_rows_than_were_graded_are_refused(tmp_path, two, change):
    out = write_grades(tmp_path / "out", two, REWARDS)
    source = {"fewer files": two[:1], "in memory": ROWS}.get(change, two)
    if change == "more rows":
        ROWS.write_parquet(two[1])
    elif change == "touched":
        two[1].touch()
    with pytest.raises(ValueError, match=r"so the grades in .* grade with --key"):
        graded(source, out)


def test_grades_that_are_not_whole_not_as_written_or_not_grades_are_refused(tmp_path, two):
    with parts_in(tmp_path / "half", {"inputs": []}, made_by="gspo-rs grade") as parts:
        parts.write(part_name(0), pl.DataFrame({"reward": [1.0]}))
    with pytest.raises(ValueError, match="unfinished run of `gspo-rs grade`"):
        graded(two, tmp_path / "half")
    with parts_in(tmp_path / "other", {}, made_by="gspo-rs sample") as parts:
        parts.complete({})
    with pytest.raises(ValueError, match="made by `gspo-rs sample`"):
        graded(two, tmp_path / "other")
    out = write_grades(tmp_path / "out", two, REWARDS)
    part = out / part_name(1)
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)
    with pytest.raises(ValueError, match=r"part-000001\.parquet has changed since"):
        graded(two, out)
    part.unlink()
    with pytest.raises(FileNotFoundError, match=r"part-000001\.parquet is missing"):
        graded(two, out)
    with pytest.raises(FileNotFoundError, match="no folder of parts"):
        graded(two, tmp_path / "nowhere")


@pytest.mark.parametrize(
    "words",
    [
        ["score", "-o", "{}/scored"],
        ["stats"],
        ["best", "-o", "{}/best.parquet"],
        ["filter", "-o", "{}/kept.parquet", "--keep", "informative"],
        ["pairs", "-o", "{}/pairs.jsonl"],
        ["report", "-o", "{}/page.html"],
    ],
)
def test_every_command_takes_grades(tmp_path, two, words, capsys):
    out = write_grades(tmp_path / "out", two, REWARDS)
    verb, *more = (word.format(tmp_path) for word in words)
    assert call(verb, *two, *more, "--by", "id", "--grades", out) == 0
    assert call(verb, *two, *more, "--by", "id", "--overwrite" if more else "--json") == 2
    assert "has no column 'reward'" in capsys.readouterr().err
