"""The types of columns of JSON Lines and CSV: what is mixed, rounded or missing is told."""

import json

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import gspo_rs as gs
from fixtures.text_commands import COMMANDS, LINES, SOUND, put
from gspo_rs import data
from gspo_rs.data.source import KEY, NUMBER, locate
from gspo_rs.files.best import best
from gspo_rs.files.summary import summarize
from gspo_rs.report.load import choose

MIXED = {
    "a number and a text": ("1", '"1"'),
    "a text and a number": ('"1"', "1"),
    "an integer and a float": ("1", "1.0"),
    "an integer and a bool": ("1", "true"),
    "a text and a list": ('"1"', "[1]"),
    "a text and an object": ('"1"', '{"a": 1}'),
}


@pytest.mark.parametrize("command", sorted(COMMANDS.keys() - {"scan"}))
@pytest.mark.parametrize("kind", MIXED)
@pytest.mark.parametrize("files", [1, 2])
def test_ids_of_several_types_are_refused_with_the_line(tmp_path, kind, command, files):
    rest = ', "prompt": "p", "completion": "c", "reward": 1}\n'
    first, second = ('{"id": ' + value + rest for value in MIXED[kind])
    put(tmp_path / "in", "a.jsonl", first * 3 + (second if files == 1 else ""))
    put(tmp_path / "in", "b.jsonl", second)
    place = r"line 4 of .*a\.jsonl" if files == 1 else r"line 1 of .*b\.jsonl"
    with pytest.raises(TypeError, match=f"'id' is .* in {place}, but"):
        COMMANDS[command](tmp_path / "in", tmp_path)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        (["1", "high"], TypeError, "'reward' is text in line {}"),
        (["1.5", "9007199254740993"], ValueError, "'reward' in line {} of .* more digits"),
        (["0.5", "0.12345678901234567890123"], ValueError, "'reward' in line {} of .* digits"),
        (["1", "18446744073709551617"], ValueError, "'reward' in line {} of .* digits"),
        (["0", "1e-400"], ValueError, "'reward' in line {} of .* too near to 0"),
        (["0", "-1E-400"], ValueError, "'reward' in line {} of .* too near to 0"),
        (["0.5", "Infinity"], ValueError, "(is infinite|is inf) at row 1"),
        (["0.5", "1e999"], ValueError, "(is infinite|is inf) at row 1"),
    ],
)
def test_a_reward_that_is_none_or_would_be_rounded_is_refused(
    tmp_path, suffix, values, error, words
):
    if suffix == ".csv":
        text = "id,reward\n" + "".join(f"a,{value}\n" for value in values)
    else:
        values = ['"high"' if value == "high" else value for value in values]
        text = "".join(f'{{"id": "a", "reward": {value}}}\n' for value in values)
    path = put(tmp_path, f"a{suffix}", text)
    words = words.format(3 if suffix == ".csv" else 2)
    for command in ("index", "stats", "wide", "narrow"):
        with pytest.raises(error, match=words):
            COMMANDS[command](path, tmp_path)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_denormal_reward_and_every_zero_stay_what_they_are(tmp_path, suffix):
    values = ["1e-320", "0", "0e-400", "5e-324", "0.0"]
    rows = [f"a,{v}" if suffix == ".csv" else f'{{"id": "a", "reward": {v}}}' for v in values]
    head = ["id,reward"] if suffix == ".csv" else []
    (tmp_path / f"in{suffix}").write_text("\n".join([*head, *rows, ""]))
    gs.score(tmp_path / f"in{suffix}", tmp_path / "out", by="id")
    found = gs.scan(tmp_path / "out").collect()
    assert found["reward"].to_list() == [float(value) for value in values]
    assert found["rank"].to_list() == [5.0, 2.0, 2.0, 4.0, 2.0]


@pytest.mark.slow
@given(st.integers(0, 40), st.floats(-1e300, 1e300))
@example(0, 2.0**-24)
@example(22, 1e-06)
@settings(max_examples=300)
def test_what_a_float_is_written_as_is_never_refused(tmp_path_factory, digits, value):
    folder = tmp_path_factory.mktemp("floats")
    texts = [repr(value), f"{value:.{digits}e}", f"{value:.17g}"]
    if abs(value) < 1e18:
        texts.append(f"{value:.{digits}f}")
    path = put(folder, "a.jsonl", "".join(f'{{"id":"a","reward":{text}}}\n' for text in texts))
    assert data.index_groups(path, by="id").n_rollouts == len(texts)
    path = put(folder, "a.csv", "id,reward\n" + "".join(f"a,{text}\n" for text in texts))
    assert data.index_groups(path, by="id").n_rollouts == len(texts)


@pytest.mark.parametrize("layout", ["wide", "narrow"])
@pytest.mark.parametrize(
    ("first", "second"), [("1", "0.5"), ("true", "0.5"), ("0", "true"), ("null", "0.5"), ("1", "")]
)
@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_types_that_differ_between_shards_by_accident_are_widened(
    tmp_path, suffix, first, second, layout
):
    values = [
        value if suffix == ".jsonl" and value else value or "null" for value in (first, second)
    ]
    for name, value in zip("ab", values, strict=True):
        text = f'{{"id": 1, "reward": {value}}}\n{{"id": 2, "reward": null}}\n'
        if suffix == ".csv":
            text = f"id,reward\n1,{value.replace('null', '')}\n2,\n"
        put(tmp_path / "in", name + suffix, text)
    gs.score(tmp_path / "in", tmp_path / "out", by="id", layout=layout)
    found = gs.scan(tmp_path / "out").collect()
    wanted = [json.loads(values[0]), None, json.loads(values[1]), None]
    got = found["reward"].cast(pl.Float64).to_list()
    assert got == [None if value is None else float(value) for value in wanted]
    assert data.index_groups(tmp_path / "in", by="id").n_groups == 2


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_shard_without_the_column_is_named(tmp_path, suffix):
    put(tmp_path / "in", f"a{suffix}", SOUND if suffix == ".csv" else LINES)
    other = SOUND.replace("reward", "score") if suffix == ".csv" else LINES.replace("rew", "sc")
    put(tmp_path / "in", f"b{suffix}", other)
    for command in sorted(COMMANDS.keys() - {"scan"}):
        with pytest.raises(ValueError, match=rf"b\{suffix} has no column 'reward'"):
            COMMANDS[command](tmp_path / "in", tmp_path)


def test_a_file_that_grows_while_it_is_read_is_an_error(tmp_path):
    path = put(tmp_path, "a.jsonl", LINES)
    frame = data.scan(path)
    path.write_text(LINES + LINES)
    with pytest.raises(OSError, match="it had 12 rows, then 24"):
        frame.collect()


def test_completions_of_csv_that_are_numbers_are_the_text_that_they_are(tmp_path):
    text = "id,prompt,completion,reward\n" + "".join(f"1,2,{x},1\n" for x in ("4", "5.50", "1e3"))
    path = put(tmp_path, "a.csv", text)
    assert next(data.rollouts(path, by="id")).completions == ["4", "5.50", "1e3"]
    best(path, tmp_path / "b.jsonl", by="id", n=3)
    assert pl.read_ndjson(tmp_path / "b.jsonl")["completion"].to_list() == ["4", "5.50", "1e3"]
    given = {"prompt": None, "completion": None, "model": None}
    names = choose(locate(path), by="id", reward="reward", given=given)
    assert (names.prompt, names.completion) == ("prompt", "completion")


def test_a_column_is_one_type_for_whoever_asks_first(tmp_path):
    path = put(tmp_path, "a.csv", "id,reward\n1.0,1\n1,0\n1.00,TRUE\n")
    source = locate(path)
    assert source.check([])["reward"] == pl.Float64
    assert source.check([("id", KEY)])["id"] == pl.String
    assert source.check([("id", NUMBER)])["id"] == pl.Float64
    assert data.scan(path).collect().rows() == [(1.0, 1.0), (1.0, 0.0), (1.0, 1.0)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", '{"id": 1, "x": {"\\u0000": 1}}\n'),
        ("a.csv", "id,x\0\n"),
        ("a.jsonl", '{"\\u0000": 1}'),
    ],
)
def test_a_name_that_no_table_can_have_is_refused(tmp_path, name, text):
    with pytest.raises(OSError, match=r"line 1 has U\+0000 in a name"):
        data.scan(put(tmp_path, name, text))


def test_numbers_and_texts_of_json_that_nobody_asks_for_are_text(tmp_path):
    values = ["7", '"x"', "null", "[1, 2.50]", "true", '{"a": 1}']
    text = "".join(f'{{"id": 1, "reward": 1, "answer": {value}}}\n' for value in values)
    path = put(tmp_path, "a.jsonl", text)
    answers = ["7", "x", None, "[1, 2.50]", "true", '{"a": 1}']
    assert data.scan(path).collect()["answer"].to_list() == answers
    gs.score(path, tmp_path / "out", by="id")
    assert gs.scan(tmp_path / "out").collect()["answer"].to_list() == answers


@pytest.mark.parametrize("kind", MIXED)
def test_ids_of_several_types_in_a_field_are_refused_with_the_line(tmp_path, kind):
    rest = ', "n": 1}, "prompt": "p", "completion": "c", "reward": 1}\n'
    first, second = ('{"id": {"id": ' + value + rest for value in MIXED[kind])
    path = put(tmp_path, "a.jsonl", first * 3 + second)
    for read in (
        data.index_groups,
        summarize,
        lambda *args, **by: next(data.rollouts(*args, **by)),
    ):
        with pytest.raises(TypeError, match=r"'id\.id' is .* in line 4 of .*a\.jsonl, but"):
            read(path, by="id.id")


def test_a_reward_in_a_field_that_would_be_rounded_is_refused(tmp_path):
    text = "".join(f'{{"id": 1, "x": {{"r": {r}}}}}\n' for r in ("0.5", "9007199254740993"))
    with pytest.raises(ValueError, match=r"'x\.r' in line 2 of"):
        data.index_groups(put(tmp_path, "a.jsonl", text), by="id", reward="x.r")
