"""Input that is broken on purpose: one line that names the file, and nothing left behind."""

import random
import sys

import polars as pl
import pytest

import gspo_rs as gs
from gspo_rs.cli.errors import quiet_panics
from gspo_rs.cli.score import score

FRAME = pl.DataFrame(
    {
        "prompt_id": [f"p{i % 40}" for i in range(400)],
        "reward": [i % 7 / 7 for i in range(400)],
        "text": [f"text number {i}" for i in range(400)],
        "nested": [{"a": [i], "b": str(i)} for i in range(400)],
    }
)


def content(tmp_path, **options):
    FRAME.write_parquet(tmp_path / "seed.parquet", **options)
    whole = (tmp_path / "seed.parquet").read_bytes()
    (tmp_path / "seed.parquet").unlink()
    return whole


def truncated(tmp_path, seed):
    whole = content(tmp_path)
    return whole[: random.Random(seed).randrange(len(whole))]


def flipped(tmp_path, seed):
    """One to eight wrong bytes anywhere, or in the last part, where the footer is."""
    rng = random.Random(seed)
    whole = bytearray(content(tmp_path, compression=rng.choice(["zstd", "uncompressed"])))
    for _ in range(rng.randint(1, 8)):
        start = rng.choice([0, max(0, len(whole) - 800)])
        whole[rng.randrange(start, len(whole))] ^= 1 << rng.randrange(8)
    return bytes(whole)


def foreign(tmp_path, seed):
    rng = random.Random(seed)
    noise = rng.randbytes(500)
    known = [b"", b"PAR1", b"PAR1PAR1", b"\0" * 100, b"hello", b"prompt_id,reward\na,1\n"]
    return rng.choice([*known, noise, b"PAR1" + noise + b"PAR1", b"\x1f\x8b" * 40])


def written(frame):
    def make(tmp_path, seed):
        frame(random.Random(seed)).write_parquet(tmp_path / "seed.parquet")
        whole = (tmp_path / "seed.parquet").read_bytes()
        (tmp_path / "seed.parquet").unlink()
        return whole

    return make


def with_value(name, value):
    """Put one wrong value into a column; the row has to be named."""

    def frame(rng):
        row = rng.randrange(FRAME.height)
        wrong = pl.when(pl.int_range(pl.len()) == row).then(value).otherwise(pl.col(name))
        return FRAME.with_columns(wrong.alias(name))

    return written(frame)


def retyped(rng):
    name = rng.choice(["prompt_id", "reward"])
    types = [pl.List(pl.Int8), pl.Float32, pl.Struct({"x": pl.Int8}), pl.Null, pl.Object]
    wrong = rng.choice(types[:4] if name == "prompt_id" else [types[0], types[2], pl.String])
    return FRAME.with_columns(pl.lit(None, dtype=wrong).alias(name))


def taken(rng):
    return FRAME.rename({"text": rng.choice(["rank", "advantage", "group_std"])})


HOSTILE = {
    "truncated": truncated,
    "flipped": flipped,
    "foreign": foreign,
    "null id": with_value("prompt_id", None),
    "infinite reward": with_value("reward", float("inf")),
    "column missing": written(lambda rng: FRAME.drop(rng.choice(["prompt_id", "reward"]))),
    "wrong type": written(retyped),
    "name taken": written(taken),
    "no rows": written(lambda _: FRAME.clear()),
    "no columns": written(lambda _: pl.DataFrame()),
    "drift": written(lambda _: FRAME.with_columns(prompt_id=pl.int_range(pl.len()))),
}
# Damage that may fall where it does no harm: then the output has what Polars reads of the input.
MAY_PASS = ("truncated", "flipped", "foreign")


def check(tmp_path, capfd, kind, seed):
    """Score one hostile file beside a sound one; both layouts by turns."""
    folder = tmp_path / f"{kind} {seed}"
    folder.mkdir()
    bad = folder / "bad.parquet"
    bad.write_bytes(HOSTILE[kind](tmp_path, seed))
    sources = [str(bad)]
    if kind == "drift":
        FRAME.write_parquet(folder / "a.parquet")
        sources = [str(folder / "a.parquet"), str(bad)]
    before = sorted(path.name for path in folder.iterdir())
    layout = ("wide", "narrow")[seed % 2]
    # As the command line does, which holds back what Polars writes before it panics.
    with pytest.raises(SystemExit) as end, quiet_panics():
        sys.exit(score(sources, target=folder / "out", by=["prompt_id"], layout=layout))
    code = end.value.code
    error = capfd.readouterr().err
    assert "Traceback" not in error
    assert "panicked" not in error
    if code == 0 and kind in MAY_PASS:
        if layout == "wide":  # a narrow run reads no text, and can't know that it is damaged
            rows = pl.read_parquet(bad)
            assert gs.scan(folder / "out").select(rows.columns).collect().equals(rows)
        return False
    assert code in (1, 2)
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 1
    assert "bad.parquet" in error
    assert sorted(path.name for path in folder.iterdir()) == before
    if kind == "null id":
        assert "'prompt_id'" in error or '"prompt_id"' in error
    if kind in ("null id", "infinite reward"):
        row = random.Random(seed).randrange(FRAME.height)
        assert f"at row {row}" in error
    return True


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_input_gets_one_line_that_names_the_file(tmp_path, capfd, kind):
    refused = [check(tmp_path, capfd, kind, seed) for seed in range(3)]
    assert any(refused)


@pytest.mark.soak
@pytest.mark.parametrize("kind", HOSTILE)
def test_thirty_hostile_inputs_of_a_kind_get_one_line_each(tmp_path, capfd, kind):
    refused = [check(tmp_path, capfd, kind, seed) for seed in range(3, 33)]
    assert any(refused)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rows.csv", "prompt_id,reward\na,1\nb,x\n"),
        ("rows.csv", ""),
        ("rows.jsonl", '{"prompt_id": "a", "reward": 1}\n{"prompt_id": \n'),
        ("rows.jsonl", '{"prompt_id": "a", "reward": "high"}\n'),
        ("rows.arrow", "ARROW1 but no more"),
        ("rows.txt", "prompt_id reward"),
    ],
)
def test_broken_text_files_get_one_line_that_names_the_file(tmp_path, capfd, name, text):
    (tmp_path / name).write_text(text)
    assert score([str(tmp_path / name)], target=tmp_path / "out", by=["prompt_id"]) == 2
    error = capfd.readouterr().err
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 1
    assert name in error
    assert [path.name for path in tmp_path.iterdir()] == [name]


def many_files(tmp_path, number):
    (tmp_path / "in").mkdir()
    for i in range(number):
        rows = FRAME[i % 400 : i % 400 + 2].drop("nested")
        rows.write_parquet(tmp_path / "in" / f"{i:05}.parquet")
    assert score([str(tmp_path / "in")], target=tmp_path / "out", by=["prompt_id"]) == 0
    assert len(list((tmp_path / "out").glob("[0-9]*.parquet"))) == number


@pytest.mark.slow
def test_many_tiny_files_are_scored(tmp_path):
    many_files(tmp_path, 100)


@pytest.mark.soak
def test_ten_thousand_tiny_files_are_scored(tmp_path):
    many_files(tmp_path, 10_000)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"memory_limit": "1MiB"}, "must be at least 144MiB"),
        ({"memory_limit": "much"}, "write it as '2GiB'"),
        ({"estimator": ["percentil"]}, "did you mean 'percentile'?"),
        ({"estimator": ["gdpo"]}, "needs several rewards"),
        ({"estimator": ["opo"]}, "needs the lengths"),
        ({"option": ["scale=some"]}, "scale is 'some'"),
        ({"option": ["scale"]}, "is not key=value"),
        ({"keep": "good"}, "good"),
        ({"by": ["prompt_id", "prompt_id"]}, "none twice"),
    ],
)
def test_bad_options_are_refused_with_the_right_ones(tmp_path, capfd, options, words):
    FRAME.write_parquet(tmp_path / "a.parquet")
    asked = {"by": ["prompt_id"], **options}
    assert score([str(tmp_path / "a.parquet")], target=tmp_path / "out", **asked) == 2
    error = capfd.readouterr().err
    assert words in error
    assert len(error.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]
