"""JSON and CSV against Python's own readers: the same texts are sound, and say the same."""

import csv
import io
import json
import math

import polars as pl
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from gspo_rs.data.formats.text import TextFiles

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=9)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4)
)
ROWS = st.lists(st.dictionaries(NAMES, VALUES, max_size=4), min_size=1, max_size=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("grammar")


def unique(pairs):
    """Refuse a key that an object has twice, which Python lets through."""
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def python_reads(line):
    try:
        value = json.loads(line, object_pairs_hook=unique)
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, AssertionError):
        return False
    return isinstance(value, dict)


def reads(path, delimiter=None):
    try:
        TextFiles([str(path)], delimiter)
    except OSError:
        return False
    return True


def same(one, other):
    """Equality that takes NaN for itself, and tells 1 from 1.0 and True."""
    return repr(one) == repr(other)


@pytest.mark.slow
@given(ROWS, st.booleans())
def test_every_object_of_python_is_read_as_it_was_written(folder, rows, ascii_only):
    path = folder / "a.jsonl"
    path.write_bytes(
        "".join(json.dumps(row, ensure_ascii=ascii_only) + "\n" for row in rows).encode()
    )
    files = TextFiles([str(path)], None)
    written = files.as_written()
    frame = written.frame().collect()
    assert set(frame.columns) == {name for row in rows for name in row}
    for name in frame.columns:
        values = [row.get(name) for row in rows]
        found = frame[name].to_list()
        if frame[name].dtype == pl.Binary:
            found = [None if one is None else json.loads(one) for one in found]
        if frame[name].dtype == pl.Float64:
            values = [None if one is None else float(one) for one in values]
        if frame[name].dtype == pl.String and not all(isinstance(v, str | None) for v in values):
            values = [None if one is None else str(one) for one in values]
        assert same(found, values)


LINE = '{"a": [1, -0.5e+3, true, null], "b\\n": {"c": "\\ud83d\\ude00 \\u00e9 é"}, "d": NaN}'
PIECES = st.sampled_from(
    [
        *'{}[]",:\\ \t\r0123456789-+.eEntfuNI/',
        "\\u",
        "\\ud83d",
        "\\ude00",
        "true",
        "null",
        "é",
        "\x01",
    ]
)


@settings(max_examples=500)
@given(st.integers(0, len(LINE)), st.integers(0, 4), st.lists(PIECES, max_size=3))
@example(0, 0, [])
def test_a_line_is_sound_if_python_reads_it(folder, place, removed, added):
    line = LINE[:place] + "".join(added) + LINE[place + removed :]
    assume(line.strip())
    path = folder / "b.jsonl"
    path.write_bytes(line.encode())
    assert reads(path) == python_reads(line)


FIELDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"), max_size=6)


@given(
    st.lists(st.tuples(FIELDS, FIELDS, FIELDS), min_size=1, max_size=6),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_every_field_of_python_is_read_as_it_was_written(folder, rows, quoting, newline):
    text = io.StringIO()
    csv.writer(text, quoting=quoting, lineterminator=newline).writerows([("a", "b", "c"), *rows])
    path = folder / "c.csv"
    path.write_bytes(text.getvalue().encode())
    files = TextFiles([str(path)], ",")
    for name in "abc":
        files.ask(name, "text")
    found = [tuple(value or "" for value in row) for row in files.frame().collect().rows()]
    assert found == rows


@settings(max_examples=500)
@given(st.text(st.sampled_from('ab,"\n\r1'), max_size=30))
@example('a,b\n1,"2\n3"\n')
def test_a_csv_is_sound_if_python_reads_it_strictly(folder, text):
    assume("\r" not in text.replace("\r\n", ""))
    path = folder / "d.csv"
    path.write_bytes(text.encode())
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    except csv.Error:
        rows = None
    sound = rows is not None and len({len(row) for row in rows}) <= 1
    sound = sound and (not rows or len(set(rows[0])) == len(rows[0]))
    assert reads(path, ",") == sound


@given(st.floats(), st.floats())
def test_a_float_has_the_bits_that_python_reads(folder, one, other):
    path = folder / "e.csv"
    path.write_text(f"a,b\n{one!r},x\n{other!r},x\n")
    found = TextFiles([str(path)], ",").frame().collect()["a"].to_list()
    assert all(
        x == y or (math.isnan(x) and math.isnan(y))
        for x, y in zip(found, (one, other), strict=True)
    )


def test_blocks_of_a_large_file_meet_where_records_do(folder):
    """Longer than a block of 4 MiB, with newlines and quotes in the fields."""
    rows = [(str(i), 'x"\n,' * (i % 700)) for i in range(12_000)]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("id", "text"), *rows])
    path = folder / "f.csv"
    path.write_bytes(text.getvalue().encode())
    assert path.stat().st_size > 3 * (4 << 20)
    files = TextFiles([str(path)], ",")
    files.ask("id", "text")
    found = files.frame().collect()
    assert [(one, text or "") for one, text in found.rows()] == [
        (str(i), t) for i, t in map(tuple, rows)
    ]
    with path.open("a") as file:
        file.write("1,2,3\n")
    line = path.read_bytes().count(b"\n")
    with pytest.raises(OSError, match=f"line {line} has 3 fields"):
        TextFiles([str(path)], ",")
    lines = folder / "f.jsonl"
    lines.write_text("".join(json.dumps({"id": i, "text": t}) + "\n" for i, t in rows))
    assert TextFiles([str(lines)], None).frame().collect().rows() == rows
    with lines.open("a") as file:
        file.write("{")
    with pytest.raises(OSError, match="line 12001 ends inside a value"):
        TextFiles([str(lines)], None)
