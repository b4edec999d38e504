"""Arrays of JSON: the rows that Python's own parser finds, errors by the number of the item."""

import gzip
import json
import random

import polars as pl
import pytest

import gspo_rs as gs
from gspo_rs import data

ROWS = [
    {"id": "a", "reward": 0.5, "text": 'a "quoted", [bracketed] {braced}\n\\', "more": [1, [2]]},
    {"id": "b", "reward": 1, "text": 'ü\u2028 \\\\"', "more": []},
    {"id": "a", "reward": None, "text": "", "more": [3, []]},
]


def scanned(path, text):
    path.write_text(text, encoding="utf-8")
    return data.scan(path).collect()


@pytest.mark.parametrize("indent", [None, 0, 1, "\t"])
@pytest.mark.parametrize("around", ["{}", " \r\n {} \n\n", "\ufeff{}"])
def test_an_array_has_the_rows_that_python_reads_in_it(tmp_path, indent, around):
    text = around.format(json.dumps(ROWS, indent=indent, ensure_ascii=indent is None))
    found = scanned(tmp_path / "in.json", text)
    assert found["id"].to_list() == [row["id"] for row in ROWS]
    assert found["reward"].to_list() == [row["reward"] for row in ROWS]
    assert found["text"].to_list() == [row["text"] for row in ROWS]


def test_a_file_of_json_may_also_hold_json_lines(tmp_path):
    lines = "\n".join(map(json.dumps, ROWS))
    expected = scanned(tmp_path / "in.jsonl", lines)
    assert scanned(tmp_path / "in.json", lines).equals(expected)
    assert scanned(tmp_path / "array.json", json.dumps(ROWS)).equals(expected)


def test_packed_arrays_are_read_and_go_together_with_lines(tmp_path):
    with gzip.open(tmp_path / "a.json.gz", "wt", encoding="utf-8") as file:
        json.dump(ROWS, file, indent=1)
    (tmp_path / "b.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    found = data.scan([tmp_path / "a.json.gz", tmp_path / "b.jsonl"]).collect()
    assert found["text"].to_list() == [row["text"] for row in ROWS] * 2


def test_an_array_of_many_blocks_has_every_row_once(tmp_path):
    draw = random.Random(7)
    rows = [
        {"id": i % 97, "reward": draw.random(), "text": '[{,"\\' * draw.randrange(60)}
        for i in range(80_000)
    ]
    path = tmp_path / "in.json"
    path.write_text(json.dumps(rows, indent=1))
    assert path.stat().st_size > 3 * (4 << 20)
    expected = pl.DataFrame(rows)
    assert data.scan(path).collect().equals(expected)
    assert data.index_groups(path, by="id").n_groups == 97


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[{"id": 1},\n\n{"id": }]', "item 2 is no JSON"),
        ('[{"id": 1}, ]', "item 2 is no JSON: ']'"),
        ('[{"id": 1},, {"id": 1}]', "item 2 is no JSON: ','"),
        ("[1, 2]", "item 1 is no JSON object"),
        ('[{"id": 1}', "the array has no end; is the file cut"),
        ('[{"id": "]', "the array has no end"),
        ('[{"id": 1}] {"id": 2}', "text behind the end of the array"),
        ('[{"id": 1}][{"id": 2}]', "text behind the end of the array"),
        ('{"rows":\n[]}', "line 1 ends inside a value"),
    ],
)
def test_a_broken_array_is_refused_with_the_number_of_the_item(tmp_path, text, words):
    with pytest.raises(OSError, match=words):
        scanned(tmp_path / "in.json", text)


def test_every_cut_of_an_array_is_an_error_and_never_fewer_rows(tmp_path):
    whole = json.dumps(ROWS[:2], ensure_ascii=False).encode()
    path = tmp_path / "in.json"
    for stop in range(1, len(whole)):
        path.write_bytes(whole[:stop])
        with pytest.raises(OSError, match=r"cannot read .*in\.json"):
            data.scan(path)


def test_an_empty_array_has_no_rows(tmp_path):
    (tmp_path / "in.json").write_text(" [ ]\n")
    with pytest.raises(ValueError, match=r"in\.json has no rows"):
        data.index_groups(tmp_path / "in.json", by="id")


def test_ids_of_mixed_types_are_refused_with_their_items(tmp_path):
    (tmp_path / "in.json").write_text('[{"id": 1, "reward": 1}, {"id": "1", "reward": 1}]')
    with pytest.raises(TypeError, match=r"text in item 2 of .*in\.json, but an integer in item 1"):
        data.index_groups(tmp_path / "in.json", by="id")


def test_an_array_is_scored_and_keeps_its_name(tmp_path):
    (tmp_path / "in.json").write_text(json.dumps(ROWS))
    gs.score(tmp_path / "in.json", tmp_path / "out", by="id", layout="narrow")
    assert (tmp_path / "out" / "in.parquet").is_file()
    assert gs.scan(tmp_path / "out").collect()["rank"].to_list() == [1.0, 1.0, None]


def test_json_beside_other_formats_in_a_folder_describes_them(tmp_path):
    frame = pl.DataFrame({"id": [1], "reward": [1.0]})
    frame.write_parquet(tmp_path / "rows.parquet")
    (tmp_path / "manifest.json").write_text("{}")
    (tmp_path / "notes.json").write_text('{"made": "by hand"}')
    assert data.scan(tmp_path).collect().equals(frame)


def test_a_folder_of_json_alone_is_read(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.json").write_text(json.dumps([{"name": name}]))
    (tmp_path / "dataset_info.json").write_text('{"features": {}}')
    assert data.scan(tmp_path).collect()["name"].to_list() == ["a", "b"]
