"""Columns of users that are called like columns that we make on the way."""

import re
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import gspo_rs as gs
import gspo_rs.polars
from fixtures.formats import WRITERS, write
from gspo_rs import data
from gspo_rs.files.best import best
from gspo_rs.files.nested import explode, nest
from gspo_rs.files.pairs import pairs
from gspo_rs.files.scoring.options import COLUMNS
from gspo_rs.files.selection import apply, read_selection, select
from gspo_rs.files.summary import summarize
from gspo_rs.files.verl import verl
from gspo_rs.report import report

PACKAGE = Path(gs.__file__).parent
MADE = re.compile(
    r"(?:alias|with_row_index|Series|rename|free_name|struct\.field|field|col)\(f?\"([^\"*^]+)\""
    r"|free_name\([^()]*, \"(\w+)\"\)|^[A-Z_]+(?:: \w+)? = \"(\w+)\"$"
    r"|f\"((?:key|reward|beside|part)\{i\})\"",
    re.MULTILINE,
)


def helper_names():
    """Every name that a column is given anywhere in the package, and some that once were."""
    found = {"__gspo_rs_row", "__gspo_rs_told", "keep", "rank_", "row_", "index", "literal", "len"}
    for path in PACKAGE.rglob("*.py"):
        for match in MADE.finditer(path.read_text()):
            found.add(next(filter(None, match.groups())))
    plain = {re.sub(r"\{\w+\}", digit, name) for name in found for digit in "01"}
    return sorted(plain)


NAMES = helper_names()
N = 24
FRAME = pl.DataFrame(
    {
        "my id": [f"p{i // 4}" for i in range(N)],
        "my prompt": [f"what is {i // 4}?" for i in range(N)],
        "my completion": [f"it is {i}" for i in range(N)],
        "my score": [i * 7 % 11 / 8 for i in range(N)],
        "my truth": [f"number {i // 4}" for i in range(N)],
    }
)


def test_the_names_are_found():
    assert {"key0", "reward", "row", "scored", "position", "number", "beside1", "keep"} <= {*NAMES}


def extras(frame):
    """Put a column of every helper name beside those of a frame."""
    return frame.with_columns(
        pl.int_range(i, i + N).cast(pl.String).alias(name)
        for i, name in enumerate(NAMES)
        if name not in COLUMNS and name not in frame.columns
    )


def written(tmp_path, suffix, frame):
    path = tmp_path / f"rows{suffix}"
    write(frame, path)
    return path


def names_of(frame):
    return dict(zip(("by", "prompt", "completion", "reward", "truth"), frame.columns, strict=False))


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("layout", ["wide", "narrow"])
@pytest.mark.parametrize("keep", ["all", "top:0.5"])
def test_no_column_of_a_user_is_dropped_or_taken_for_one_of_ours(tmp_path, suffix, layout, keep):
    told = {"by": "my id", "reward": "my score", "layout": layout, "keep": keep}
    given = extras(FRAME)
    gs.score(written(tmp_path, suffix, given), tmp_path / "out", **told)
    found = gs.scan(tmp_path / "out").collect()
    gs.score(FRAME, tmp_path / "plain", **(told | {"layout": "wide"}))
    plain = gs.scan(tmp_path / "plain").collect()
    assert sorted(found.columns) == sorted([*given.columns, *COLUMNS])
    assert_frame_equal(found.select(plain.columns), plain)
    mine = found.select(given.columns).cast(pl.String)
    rows = given.cast(pl.String).filter(
        pl.col("my completion").is_in(plain["my completion"].implode())
    )
    assert_frame_equal(mine, rows)


def chosen_rows(path, folder, n):
    select(path, folder / "chosen.parquet", by=n["by"], reward=n["reward"], keep="top:0.5")
    frame = apply(read_selection(folder / "chosen.parquet")).collect()
    return frame.select(n[part] for part in ("by", "completion", "reward"))


def as_lists(path, folder, n):
    nest(path, folder / "lists.parquet", by=n["by"], reward=n["reward"])
    explode(folder / "lists.parquet", folder / "exploded.parquet")
    frame = pl.read_parquet(folder / "exploded.parquet")
    return frame.select(n.values())


def texts(n):
    return {part: n[part] for part in ("by", "prompt", "completion", "reward")}


def of_file(write, name):
    def made(path, folder, n):
        write(path, folder / name, n)
        return pl.read_parquet(folder / name)

    return made


def reported(path, folder, n):
    report(path, folder / "page.html", **texts(n))
    page = (folder / "page.html").read_text()
    return pl.DataFrame({"groups": re.findall(r"(\d+) groups", page)})


def batches(path, _, n):
    read = data.rollouts(path, **texts(n), shuffle=True)
    return pl.DataFrame([(*b.prompts, *b.completions, *b.reward) for b in read], orient="row")


DOORS = {
    "best": of_file(lambda path, out, n: best(path, out, **texts(n)), "best.parquet"),
    "pairs": of_file(lambda path, out, n: pairs(path, out, **texts(n)), "pairs.parquet"),
    "verl": of_file(
        lambda path, out, n: verl(
            path,
            out,
            by=n["by"],
            prompt=n["prompt"],
            reward=n["reward"],
            ground_truth=n["truth"],
            data_source="sums",
        ),
        "verl.parquet",
    ),
    "select": chosen_rows,
    "lists": as_lists,
    "stats": lambda path, _, n: pl.DataFrame(
        {
            "told": [
                repr(replace(one, per=None))
                for one in summarize(path, by=n["by"], reward=n["reward"], per=n["truth"])
            ]
        }
    ),
    "report": reported,
    "rollouts": batches,
    "expressions": lambda path, _, n: pl.read_parquet(path).select(
        rank=pl.col(n["reward"]).gspo.rank(by=n["by"]),
        percentile=pl.col(n["reward"]).gspo.percentile(by=[n["by"], n["truth"]]),
        top=pl.col(n["reward"]).gspo.top_fraction(0.5, by=n["by"]),
        advantage=pl.col(n["reward"]).gspo.advantage("zscore", by=n["by"]),
        score=pl.col(n["reward"]).gspo.score(by=n["by"]),
    ),
    "groups of a frame": lambda path, _, n: (
        pl.scan_parquet(path).gspo.stats(by=n["by"], reward=n["reward"]).collect()
    ),
    "groups of several keys": lambda path, _, n: pl.read_parquet(path).gspo.stats(
        by=[n["by"], n["truth"]], reward=n["reward"]
    ),
}


@pytest.mark.parametrize("door", DOORS)
def test_columns_called_like_ours_change_nothing_in_any_command(tmp_path, door):
    path = written(tmp_path, ".parquet", FRAME)
    (tmp_path / "plain").mkdir()
    plain = DOORS[door](path, tmp_path / "plain", names_of(FRAME))
    more = extras(FRAME)
    # The report describes the models that a column `model` names, as its `--help` says.
    path = written(tmp_path, ".parquet", more.drop("model") if door == "report" else more)
    assert_frame_equal(DOORS[door](path, tmp_path, names_of(FRAME)), plain)


# How many columns are written of chosen rows, before the key.
FIXED = {"best": 3, "pairs": 6}


@pytest.mark.slow
@pytest.mark.parametrize("door", DOORS)
def test_the_columns_that_are_named_may_be_called_like_ours(tmp_path, door):
    """Each of the five in turn has the name of a helper, and all five at once have others."""
    (tmp_path / "plain").mkdir()
    path = written(tmp_path, ".parquet", FRAME)
    plain = DOORS[door](path, tmp_path / "plain", names_of(FRAME))
    fields = {*gs.stats([0.0], ["a"]).__dataclass_fields__}
    usable = [name for name in NAMES if name not in {*COLUMNS, *fields}]
    shifts = [0] if door == "report" else range(0, len(usable), 2)
    for shift in shifts:
        names = [usable[(shift + i * 7) % len(usable)] for i in range(5)]
        if len({*names}) < 5:
            continue
        frame = FRAME.rename(dict(zip(FRAME.columns, names, strict=True)))
        folder = tmp_path / str(shift)
        folder.mkdir()
        path = written(folder, ".parquet", frame)
        found = DOORS[door](path, folder, names_of(frame))
        back = dict(zip(names, FRAME.columns, strict=True))
        if door in ("select", "lists", "groups of a frame", "groups of several keys"):
            found = found.rename(back, strict=False)
        if door in FIXED:
            key, n = names_of(frame)["by"], FIXED[door]
            # The key comes last, unless it is called as a column that is written anyway.
            assert found.columns[n:] == [key] * (key not in found.columns[:n])
            assert all(found[key].equals(plain[:, n]) for _ in found.columns[n:])
            found, wanted = found[:, :n], plain[:, :n]
        else:
            wanted = plain
        assert_frame_equal(found, wanted)


def test_an_id_called_like_a_statistic_is_not_overwritten():
    frame = pl.DataFrame({"mean": ["a", "a"], "reward": [0.0, 1.0]})
    with pytest.raises(ValueError, match="'mean' has the name of a statistic"):
        gs.stats(frame["reward"], frame.select("mean")).to_polars()
    with pytest.raises(ValueError, match="'mean' has the name of a statistic"):
        frame.gspo.stats(by="mean")
