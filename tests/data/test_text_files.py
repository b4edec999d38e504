"""JSON Lines and CSV: one file is whole or broken for every command, and no value changes."""

import csv
import gzip
import json

import polars as pl
import pyarrow as pa
import pytest

from fixtures.text_commands import COMMANDS, HEADER, LINES, REFUSING, SOUND, put
from gspo_rs import data

pytestmark = pytest.mark.slow

# What is wrong with a file, the line, and what the error says of it.
BROKEN = {
    "a field too many": (".csv", SOUND + "9,p,a,b,3\n", 14, "has 5 fields, but the header 4"),
    "a field too few": (".csv", SOUND + "9,p,3\n", 14, "has 3 fields, but the header 4"),
    "a field too many at once": (".csv", HEADER + "9,p,a,b,3\n", 2, "has 5 fields"),
    "an unclosed quote": (".csv", SOUND + '9,p,"c,3\n' + "9,p,c,3\n" * 9, 14, "never closed"),
    "text behind a quote": (".csv", SOUND + '9,p,"c"d,3\n', 14, "behind a closing quote"),
    "a quote over two lines first": (
        ".csv",
        HEADER + '1,p,"two\nlines",3\n1,p,3\n',
        4,
        "has 3 fields",
    ),
    "a tab too many": (".tsv", HEADER.replace(",", "\t") + "1\tp\tc\t1\t2\n", 2, "has 5 fields"),
    "no UTF-8 in CSV": (".csv", SOUND.encode() + b"9,p,\xe9,3\n", 14, "is not UTF-8"),
    "a name twice": (".csv", "id,prompt,completion,reward,id\n", 1, 'names the column "id" twice'),
    "a lone carriage return": (".csv", SOUND + "9,p,c\rd,3\n", 14, "carriage return"),
    "a cut line": (".jsonl", LINES + '{"id": 9, "prompt": "p", "compl', 13, "ends inside a value"),
    "a line in the middle cut": (".jsonl", '{"id": 1, "rew\n' + LINES, 1, "ends inside a value"),
    "no JSON": (".jsonl", LINES + "{'id': 9}\n", 13, "is no JSON: '\\'' at column 2"),
    "no object": (".ndjson", LINES + "[1, 2]\n", 13, "is no JSON object"),
    "two objects": (".jsonl", LINES + '{"id": 9} {"id": 9}\n', 13, "is no JSON: '{' at column 11"),
    "a key twice": (".jsonl", LINES + '{"id": 9, "id": 8}\n', 13, 'has the key "id" twice'),
    "a key twice inside": (".jsonl", LINES + '{"id": 9, "x": {"a": 1, "a": 2}}\n', 13, "twice"),
    "half a pair in a text": (
        ".jsonl",
        LINES + '{"id": 9, "prompt": "p", "completion": "a\\ud83d", "reward": 1}\n',
        13,
        r"half a surrogate pair, \ud83d",
    ),
    "half a pair in an id": (".jsonl", '{"id": "\\uDE00", "reward": 1}\n', 1, r"\uDE00"),
    "half a pair in what nobody asks for": (
        ".jsonl",
        LINES + '{"id": 9, "extra": ["\\ud83d\\ud83d"]}\n',
        13,
        "half a surrogate pair",
    ),
    "no UTF-8": (".jsonl", LINES.encode() + b'{"id": "\xff"}\n', 13, "is not UTF-8"),
    "a control character": (".jsonl", LINES + '{"id": "a\tb"}\n', 13, "U+0009"),
    "lists without end": (".jsonl", '{"id": ' + "[" * 9999 + "\n", 1, "lists in lists"),
}


@pytest.mark.parametrize("command", REFUSING)
@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_line_is_refused_by_every_command_with_its_number(tmp_path, kind, command):
    suffix, text, line, words = BROKEN[kind]
    path = put(tmp_path / "in", f"rows{suffix}", text)
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(OSError, match=f"line {line} ") as error:
        REFUSING[command](path, target)
    assert words in str(error.value)
    assert str(path) in str(error.value)
    assert list(target.iterdir()) == []


IDS = ["007", "7", "07", "true", "TRUE", "True", "1", "01", "+1", "1.0", "1e0", "-0", "0", " 1"]
WHOLE = {
    "ids that a parser would join": (
        ".csv",
        HEADER + "".join(f"{name},p,c{k},{k}\n" for name in IDS for k in range(2)),
    ),
    "zeros before ids": (".csv", HEADER + "007,p,a,1\n7,p,b,0\n07,p,c,1\n7,p,d,0.5\n"),
    "bools as ids": (".csv", HEADER + "true,p,a,1\nTRUE,p,b,0\ntrue,p,c,1\n"),
    "ids with decimals": (".csv", HEADER + "1.0,p,a,1\n1,p,b,0\n1.00,p,c,1\n1.0,p,d,0\n"),
    "larger than int64": (
        ".csv",
        HEADER + "18446744073709551616,p,a,1\n18446744073709551617,p,b,0\n",
    ),
    "completions that are numbers": (".csv", HEADER + "1,2,007,1\n1,2,7,0\n2,3,7,1\n"),
    "quotes, newlines and commas": (
        ".csv",
        HEADER + '1,"p,\n""q""",c,1\r\n1,"p,\n""q""","5"" x",0\r\n\r\n2,5" x,"\n",1',
    ),
    "tabs": (".tsv", HEADER.replace(",", "\t") + "1\tp\ta,b\t1\n01\tp\tc\t0\n"),
    "a mark of the byte order": (".csv", "\ufeff" + SOUND),
    "lines": (".jsonl", LINES),
    "blank lines, CRLF and no end": (
        ".jsonl",
        "\ufeff\r\n" + LINES.replace("\n", "\r\n \r\n")[:-5],
    ),
    "ids larger than int64": (
        ".jsonl",
        LINES.replace('"id": ', '"id": 1844674407370955161600000'),
    ),
    "ids of uint64": (".jsonl", LINES.replace('"id": ', '"id": 1844674407370955161')),
    "escapes": (
        ".jsonl",
        LINES.replace('"id": 0', '"id": "\\ud83d\\ude00\\u0000"')
        .replace('"id": 1', '"id": "\\ud83d\\ude00"')
        .replace('"id": 2', '"id": "\\/"'),
    ),
    "rewards without a number": (
        ".jsonl",
        LINES.replace('"reward": 0', '"reward": NaN').replace('"reward": 1', '"reward": null'),
    ),
    "rewards of three types": (
        ".jsonl",
        LINES.replace('"reward": 0', '"reward": 0.5').replace('"reward": 1', '"reward": true'),
    ),
    "keys in another order, and more of them": (
        ".jsonl",
        LINES + '{"reward": 1, "x": {}, "completion": "c", "prompt": "p0", "id": 0}\n',
    ),
}


def rows_of(suffix, text):
    """The rows as Python's own modules read them."""
    text = text.removeprefix("\ufeff")
    if suffix == ".jsonl":
        return [json.loads(line) for line in text.split("\n") if line.strip()]
    lines = text.splitlines(keepends=True)
    delimiter = "\t" if suffix == ".tsv" else ","
    header, *rows = [row for row in csv.reader(lines, delimiter=delimiter, strict=True) if row]
    return [dict(zip(header, row, strict=True)) for row in rows]


def number(value):
    return None if value is None or value != value else float(value)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", WHOLE)
def test_every_command_sees_the_rows_that_python_reads(tmp_path, kind, command):
    suffix, text = WHOLE[kind]
    path, rows = put(tmp_path / "in", f"rows{suffix}", text), rows_of(suffix, text)
    found = COMMANDS[command](path, tmp_path)
    index = data.index_groups(path, by="id")
    assert index.n_groups == len({row["id"] for row in rows})
    assert index.n_rollouts == len(rows)
    if found is None:
        return
    wanted = [number(row["reward"]) for row in rows]
    got = [number(value) for value in found["reward"].cast(pl.Float64)]
    if command == "best":
        wanted = [value for value in wanted if value is not None]
    assert sorted(got, key=str) == sorted(wanted, key=str)
    if command in ("wide", "narrow", "select", "scan"):
        texts = found["completion"].cast(pl.String).to_list()
        assert texts == [row["completion"] for row in rows]
    if command in ("wide", "narrow"):
        sizes = [sum(other["id"] == row["id"] for other in rows) for row in rows]
        assert found["group_size"].to_list() == sizes


def pack(text, packing):
    if packing == ".gz":
        # In two parts, as a file that was appended to.
        return b"".join(gzip.compress(part.encode()) for part in (text[:99], text[99:]))
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(text.encode())
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize("kind", ["lines", "zeros before ids", "tabs"])
@pytest.mark.parametrize("packing", [".gz", ".zst"])
@pytest.mark.parametrize("command", ["wide", "narrow", "select", "scan", "best"])
def test_packed_files_are_read_as_what_is_in_them(tmp_path, kind, packing, command):
    suffix, text = WHOLE[kind]
    plain = put(tmp_path / "plain", f"rows{suffix}", text)
    packed = put(tmp_path / "packed", f"rows{suffix}{packing}", pack(text, packing))
    one = COMMANDS[command](plain, tmp_path / "plain")
    assert COMMANDS[command](packed, tmp_path / "packed").equals(one)


@pytest.mark.parametrize("packing", [".gz", ".zst"])
def test_a_packed_file_that_is_cut_is_an_error_that_names_it(tmp_path, packing):
    whole = pack(LINES * 99, packing)
    path = put(tmp_path, f"rows.jsonl{packing}", whole[: len(whole) // 2])
    with pytest.raises(OSError, match=rf"cannot read .*rows\.jsonl{packing}: "):
        data.scan(path)


@pytest.mark.parametrize("name", ["b.csv", "b.csv.gz"])
@pytest.mark.parametrize("text", ["", "\ufeff", HEADER, "\n\n"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_shard_without_rows_adds_none(tmp_path, name, text, command):
    put(tmp_path / "in", name, pack(text, ".gz") if name.endswith(".gz") else text)
    for other in ("a.csv", "c.csv"):
        put(tmp_path / "in", other, SOUND)
    found = COMMANDS[command](tmp_path / "in", tmp_path)
    assert found is None or len(found) == 24
    assert data.index_groups(tmp_path / "in", by="id").n_rollouts == 24


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.tsv", "a.jsonl.gz", "a.csv.zst"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_without_rows_alone_is_told(tmp_path, name, command):
    path = put(tmp_path, name, "")
    if command == "scan":
        assert data.scan(path).collect().is_empty()
        return
    with pytest.raises(ValueError, match=r"no rows|no column"):
        COMMANDS[command](path, tmp_path)
    text = HEADER if "csv" in name else "\n"
    path.write_bytes(text.encode() if name.count(".") == 1 else pack(text, path.suffix))
    with pytest.raises(ValueError, match=r"no rows|no column"):
        COMMANDS[command](path, tmp_path)
