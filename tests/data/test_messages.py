"""Messages as keys of groups, and conversations that hold prompt and completion."""

import json

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gspo_rs as gs
from fixtures.formats import write
from gspo_rs import data
from gspo_rs.data.messages import before_answer, decoded, last_answer

MESSAGE = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["user", "assistant"]),
        "content": st.none() | st.sampled_from(["", "a", '"', "\\", '"}]', "null", "é\n"]),
    }
)
TYPE = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(MESSAGE, max_size=3), min_size=1, max_size=12))
def test_messages_are_one_key_just_if_they_are_equal(said):
    frame = pl.DataFrame({"prompt": pl.Series(said, dtype=TYPE), "reward": [1.0] * len(said)})
    found = data.index_groups(frame, by="prompt").groups
    firsts = [said.index(one) for one in said]
    numbers = {first: number for number, first in enumerate(dict.fromkeys(firsts))}
    assert found.codes.tolist() == [numbers[first] for first in firsts]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(MESSAGE, max_size=4), min_size=1, max_size=8))
def test_a_conversation_is_cut_before_the_answers_that_end_it(said):
    frame = pl.DataFrame({"said": pl.Series(said, dtype=TYPE)})
    written = [json.dumps(one).encode() for one in said]
    for column in (frame["said"], pl.Series("said", written)):
        found = column.to_frame().select(
            before=before_answer(pl.col("said")), last=last_answer(pl.col("said"))
        )
        rows = found.rows()
        if column.dtype == pl.Binary:
            rows = [[part if part is None else json.loads(part) for part in row] for row in rows]
        for whole, (before, last) in zip(said, rows, strict=True):
            assert before + (last or []) == whole
            assert last is None or {one["role"] for one in last} == {"assistant"}
            assert not before or before[-1]["role"] != "assistant"
            assert last != []


def test_null_and_absent_fields_are_the_same_key_and_null_messages_are_none(tmp_path):
    rows = [
        {"prompt": [{"role": "user", "content": "a"}], "reward": 1},
        {"prompt": [{"role": "user", "content": "a", "name": None}], "reward": 0},
        {"prompt": [{"content": "a", "role": "user", "name": "n"}], "reward": 0},
    ]
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert data.index_groups(path, by="prompt").groups.codes.tolist() == [0, 0, 1]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"reward": 1}]))
    with pytest.raises(ValueError, match="the group id 'prompt' is null at row 3"):
        data.index_groups(path, by="prompt")


def test_ids_of_messages_come_out_as_text_and_structs_are_keys_too():
    prompt = [{"role": "user", "content": "a"}]
    rows = {"prompt": [prompt] * 2, "completion": ["x", "y"], "reward": [1, 0], "k": [{"a": 1}] * 2}
    frame = pl.DataFrame(rows)
    batch = next(data.rollouts(frame, by=["prompt", "k"]))
    assert batch.group_ids == [('[{"role":"user","content":"a"}]', '{"a":1}')]
    assert gs.stats(frame, by="k", per="prompt")[1].part == '[{"role":"user","content":"a"}]'


def test_lists_of_floats_are_no_keys():
    frame = pl.DataFrame({"vector": [[0.5]], "reward": [1.0]})
    with pytest.raises(TypeError, match=r"'vector' .* it must be an integer, string"):
        data.index_groups(frame, by="vector")


SHAREGPT = {
    "conversations": [
        [{"from": "human", "value": "2+2="}, {"from": "gpt", "value": text}] for text in "45"
    ]
}
CHAT = {
    "messages": [
        [{"role": "user", "content": "2+2="}, {"role": "assistant", "content": text}]
        for text in "45"
    ]
}
PROMPT = [{"role": "user", "content": "2+2="}]


@pytest.mark.parametrize("rows", [SHAREGPT, CHAT])
@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
@pytest.mark.parametrize("named", [False, True])
def test_a_conversation_gives_prompt_and_completion(tmp_path, rows, suffix, named):
    (name,) = rows
    source = write(
        pl.DataFrame({**rows, "id": [1, 1], "reward": [1, 0], "answer": ["4", "4"]}),
        tmp_path / f"in{suffix}",
    )
    options = {"by": "id", **({"prompt": name, "completion": name} if named else {})}
    four, five = ([{"role": "assistant", "content": text}] for text in "45")
    for target in (None, tmp_path / "out.jsonl"):
        found = gs.pairs(source, target, **options)
        if target is not None:
            found = pl.read_ndjson(target)
        assert found.select("prompt", "chosen", "rejected").row(0) == (PROMPT, four, five)
    assert gs.best(source, **options).row(0)[:2] == (PROMPT, four)
    batch = next(data.rollouts(source, **options))
    assert (batch.prompts, batch.completions) == ([PROMPT, PROMPT], [four, five])
    if not named:
        verl = gs.verl(source, by="id", ground_truth="answer", data_source="sums")
        assert verl["prompt"].to_list() == [PROMPT]
        assert data.prompts(source, columns=[]).texts == [PROMPT, PROMPT]


def test_a_conversation_without_an_answer_and_a_text_as_one_are_refused():
    frame = pl.DataFrame({"messages": [PROMPT], "id": [1], "reward": [1.0]})
    with pytest.raises(ValueError, match="the completion is null at row 0"):
        gs.best(frame, by="id")
    text = pl.DataFrame({"text": ["x"], "id": [1], "reward": [1.0]})
    with pytest.raises(TypeError, match="only where it holds conversations"):
        gs.best(text, by="id", prompt="text", completion="text")


def _asked(question, answer, roles):
    role, content = ("from", "value") if roles[0] == "human" else ("role", "content")
    return [{role: roles[0], content: question}, {role: roles[1], content: answer}]


# Three questions of two answers each, none beside its other.
ROWS = [(id_, reward) for reward in (0.0, 1.0) for id_ in "bca"]
ROLES = {"messages": ("user", "assistant"), "conversations": ("human", "gpt")}


@pytest.fixture(params=ROLES)
def asked(request):
    """Rows with a conversation, and the id of its prompt to compare with."""
    name = request.param
    said = [_asked(f"{id_}?", f"{id_}{reward}", ROLES[name]) for id_, reward in ROWS]
    ids, rewards = zip(*ROWS, strict=True)
    return pl.DataFrame({name: said, "id": ids, "reward": rewards, "answer": ids})


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_the_prompt_of_a_conversation_names_the_groups_that_its_id_names(tmp_path, asked, suffix):
    source = write(asked, tmp_path / f"in{suffix}")
    calls = {
        gs.pairs: {},
        gs.best: {"n": 2},
        gs.filter: {"keep": "best:1"},
        gs.verl: {"ground_truth": "answer", "data_source": "sums"},
        gs.stats: {},
    }
    for verb, options in calls.items():
        found, wanted = (verb(source, by=by, **options) for by in ("prompt", "id"))
        if isinstance(found, pl.DataFrame):
            # Chosen rows keep the id as their key, and the prompt is there anyway.
            found, wanted = found.to_dicts(), wanted.select(found.columns).to_dicts()
        assert found == wanted, verb
    codes = data.index_groups(source, by="prompt").groups.codes
    assert codes.tolist() == [0, 1, 2, 0, 1, 2]
    gs.report(source, tmp_path / "page.html", by="prompt")
    assert "3 groups" in (tmp_path / "page.html").read_text()
    nested = gs.nest(source, by="prompt")
    assert nested.columns == asked.columns
    assert nested["id"].to_list() == [[id_] * 2 for id_ in "bca"]


@pytest.mark.parametrize("options", [{}, {"layout": "narrow"}, {"drop": True}])
def test_scores_by_the_prompt_of_a_conversation_are_those_by_its_id(tmp_path, asked, options):
    options = {name: asked.columns[:1] if name == "drop" else v for name, v in options.items()}
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(2):
        write(asked[3 * number : 3 * number + 3], folder / f"{number}.parquet")
    found = []
    for by in ("prompt", "id"):
        gs.score(folder, tmp_path / by, by=by, **options)
        found.append(gs.scan(tmp_path / by).collect())
    assert found[0].equals(found[1])
    assert found[0].height == 6


def test_rollouts_of_a_conversation_come_group_by_group(asked):
    (batch,) = data.rollouts(asked, by="prompt")
    assert batch.offsets.tolist() == [0, 2, 4, 6]
    assert [json.loads(one)[0]["content"] for one in batch.group_ids] == ["b?", "c?", "a?"]


def test_the_prompt_of_conversations_in_lists_is_a_key(asked):
    lists = asked.group_by("id", maintain_order=True).agg(pl.all().exclude("id"))
    index = data.index_groups(lists, by="prompt")
    assert index.groups.codes.tolist() == [0, 0, 1, 1, 2, 2]


def test_a_column_called_prompt_is_the_key_before_a_conversation(asked):
    rows = asked.with_columns(prompt=pl.Series(["x", "x", "y", "y", "y", "x"]))
    assert data.index_groups(rows, by="prompt").groups.codes.tolist() == [0, 0, 1, 1, 1, 0]
    two = asked.with_columns(asked.to_series(0).alias("conversation"))
    with pytest.raises(ValueError, match="has no column 'prompt'"):
        data.index_groups(two, by="prompt")


@pytest.mark.parametrize("text", ["plain", "[1, 2]", "[", "[]", '[{"role": "user"}]', '{"a": 1}'])
def test_texts_that_are_no_messages_stay_texts(text):
    assert decoded([text, "other"], "row {}".format) == [text, "other"]


@pytest.mark.parametrize("wrong", ["plain", '[{"role": "user"}]', "[", "[]"])
def test_a_text_among_messages_in_json_is_named_with_its_row(wrong):
    rows = [{"prompt": json.dumps([{"role": "user", "content": "x"}])}, {"prompt": wrong}]
    with pytest.raises(ValueError, match=r"row 1 of .*is no list of messages in JSON"):
        data.prompts(rows)
