"""Messages from JSON to JSON: each keeps the keys that it has, and gains none."""

import json

import polars as pl
import pytest

from fixtures.formats import json_lines
from fixtures.text_commands import put
from gspo_rs import data
from gspo_rs.files.best import best
from gspo_rs.files.nested import explode, nest
from gspo_rs.files.pairs import pairs
from gspo_rs.files.verl import verl

PROMPTS = [
    [{"role": "user", "content": "2+2="}],
    [{"content": "be short", "role": "system", "name": "s"}, {"role": "user", "content": "é😀"}],
]
CALL = {"id": "1", "function": {"name": "add", "arguments": {"a": 2, "b": 1.50, "c": None}}}
COMPLETIONS = [
    [{"role": "assistant", "content": None, "tool_calls": [CALL]}],
    [{"role": "assistant", "content": "4"}],
    [{"role": "tool", "content": "4", "tool_call_id": "1"}, {"role": "assistant", "content": ""}],
    [],
]
ROWS = [
    {
        "id": row // 4,
        "prompt": PROMPTS[row // 4],
        "completion": COMPLETIONS[row % 4],
        "reward": row % 4 / 2,
        "tools": [{"x": {}}, {"y": []}][row % 2],
        "mixed": [1, "1", {"a": 1}, None][row % 4],
        "big": 10**30 + row,
    }
    for row in range(8)
]


@pytest.fixture(params=["\n", " \r\n"])
def source(tmp_path, request):
    text = "".join(json.dumps(row) + request.param for row in ROWS)
    return put(tmp_path / "in", "rows.jsonl", text)


@pytest.mark.parametrize("chat", [False, True])
def test_chosen_messages_have_the_keys_that_they_had(tmp_path, source, chat):
    best(source, tmp_path / "b.jsonl", by="id", n=4, chat=chat)
    wanted = sorted(ROWS, key=lambda row: (row["id"], -row["reward"]))
    names = ("prompt", "completion", "reward", "id")
    assert json_lines(tmp_path / "b.jsonl") == [
        {name: row[name] for name in names} for row in wanted
    ]


def test_pairs_of_messages_have_the_keys_that_they_had(tmp_path, source):
    pairs(source, tmp_path / "p.jsonl", by="id")
    for pair, first in zip(json_lines(tmp_path / "p.jsonl"), (0, 4), strict=True):
        assert pair["prompt"] == PROMPTS[first // 4]
        assert (pair["chosen"], pair["rejected"]) == ([], COMPLETIONS[0])
        assert (pair["margin"], pair["chosen_reward"], pair["rejected_reward"]) == (1.5, 1.5, 0)


def test_texts_beside_messages_become_messages_and_these_stay_as_they_are(tmp_path):
    rows = [{**row, "prompt": f"p{row['id']}"} for row in ROWS]
    path = put(tmp_path / "in", "rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    best(path, tmp_path / "b.ndjson", by="id", n=4, chat=True, keep="reward:0..0")
    assert json_lines(tmp_path / "b.ndjson") == [
        {
            "prompt": [{"role": "user", "content": f"p{number}"}],
            "completion": COMPLETIONS[0],
            "reward": 0,
            "id": number,
        }
        for number in range(2)
    ]


def test_lists_and_rows_give_back_every_row_as_it_was(tmp_path, source):
    nest(source, tmp_path / "l.jsonl", by="id", once=["prompt"])
    found = json_lines(tmp_path / "l.jsonl")
    assert [row["completion"] for row in found] == [COMPLETIONS, COMPLETIONS]
    assert [row["prompt"] for row in found] == PROMPTS
    explode(tmp_path / "l.jsonl", tmp_path / "r.jsonl", once=["prompt"])
    assert json_lines(tmp_path / "r.jsonl") == ROWS


def test_prompts_for_verl_have_the_keys_that_they_had(tmp_path, source):
    options = {"by": "id", "ground_truth": "id", "data_source": "sums"}
    verl(source, tmp_path / "v.jsonl", **options)
    assert [row["prompt"] for row in json_lines(tmp_path / "v.jsonl")] == PROMPTS


def test_a_reward_function_gets_the_objects_of_the_file(tmp_path):
    rows = [{"prompt": "p", "tests": row["completion"], "x": row["tools"]} for row in ROWS]
    path = put(tmp_path, "p.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    found = data.prompts(path)
    assert found.columns == {name: [row[name] for row in rows] for name in ("tests", "x")}


@pytest.mark.parametrize("bad", [COMPLETIONS[0], "text"])
def test_messages_among_texts_are_refused_with_the_line(tmp_path, bad):
    rows = [{"id": 1, "prompt": "p", "completion": text, "reward": 1} for text in ("a", "b", bad)]
    rows += [{**rows[0], "completion": [{"role": "assistant", "content": "c"}]}]
    path = put(tmp_path, "p.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    line = 3 if bad != "text" else 4
    with pytest.raises(TypeError, match=f"'completion' is a list in line {line} of"):
        best(path, tmp_path / "b.jsonl", by="id")


def test_in_parquet_a_key_that_a_message_lacks_is_null(tmp_path, source):
    best(source, tmp_path / "b.parquet", by="id", n=4)
    first = pl.read_parquet(tmp_path / "b.parquet")["completion"][-1].to_list()
    assert {name for message in first for name, value in message.items() if value is not None} <= {
        *COMPLETIONS[0][0]
    }
    assert set(first[0]) == {"role", "content", "tool_calls", "tool_call_id"}


def test_a_data_set_for_loaders_gives_the_objects_of_the_file(source):
    from gspo_rs.integrations.torch_data import GroupDataset

    items = list(GroupDataset(str(source), by="id", batch_groups=1))
    for name in ("prompt", "completion", "tools", "mixed", "big"):
        assert [value for item in items for value in item[name]] == [row[name] for row in ROWS]


def test_prompts_that_say_the_same_are_the_same_however_they_are_written(tmp_path):
    rows = [json.dumps(row) for row in ROWS[:2]]
    rows[1] = json.dumps(ROWS[1], sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    swapped = [{"id": 1, **row, "prompt": PROMPTS[1]} for row in ROWS[4:6]]
    rows += [json.dumps(swapped[0]), json.dumps(swapped[1], ensure_ascii=False, sort_keys=True)]
    path = put(tmp_path, "a.jsonl", "\n".join(rows))
    pairs(path, tmp_path / "p.jsonl", by="id")
    assert [pair["prompt"] for pair in json_lines(tmp_path / "p.jsonl")] == PROMPTS
    nest(path, tmp_path / "l.jsonl", by="id", once=["prompt"])
    assert [row["prompt"] for row in json_lines(tmp_path / "l.jsonl")] == PROMPTS
    path.write_text("\n".join(rows).replace("be short", "be long", 1))
    for write, options in ((pairs, {}), (nest, {"once": ["prompt"]})):
        with pytest.raises(ValueError, match="are of one group but"):
            write(path, tmp_path / "n.jsonl", by="id", **options)
