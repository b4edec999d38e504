"""Scored texts as tokens: the model's own, ended where they were complete, and none cut."""

from dataclasses import replace

import numpy as np
import pytest
from transformers import AutoTokenizer

from fixtures import alphabets
from gspo_rs.rollouts import Ragged, Rollouts
from gspo_rs.samplers.special_tokens import Ends
from gspo_rs.train.config.config import Config
from gspo_rs.train.rollout.tokenize import LengthError, tokenise

END = 0


@pytest.fixture(scope="module")
def tokenizer(letters):
    return AutoTokenizer.from_pretrained(letters)


def rollouts(completions, **fields):
    n = len(completions)
    defaults = {"prompts": ["ab"] * n, "reward": np.arange(n, dtype=float)}
    return Rollouts(offsets=np.array([0, n]), completions=completions, **{**defaults, **fields})


def config(**fields):
    return Config(model="m", rollouts="r", **{"max_completion_length": 4, **fields})


def test_a_completion_ends_with_the_end_token_where_there_is_room_for_it(tokenizer):
    found, too_long = tokenise(rollouts(["abc", "abcd", ""]), tokenizer, None, config())
    assert [found.completion_tokens.row(i).tolist() for i in range(3)] == [
        [2, 3, 4, END],
        [2, 3, 4, 5],
        [END],
    ]
    assert found.prompt_tokens.row(2).tolist() == [2, 3]
    assert not too_long.any()


@pytest.mark.parametrize(
    ("fields", "context", "message"),
    [
        ({"max_prompt_length": 1}, None, "prompt of 2 tokens, max_prompt_length is 1"),
        ({"max_completion_length": 2}, None, "completion of 3 tokens, max_completion_length is 2"),
        ({}, 5, "prompt and completion of 6 tokens, the model's context is 5"),
    ],
)
def test_a_row_beyond_a_limit_is_named_or_marked_and_never_cut(tokenizer, fields, context, message):
    rows = rollouts(["a", "abc"], group_ids=["g7"])
    with pytest.raises(LengthError, match=rf"group 'g7': {message}"):
        tokenise(rows, tokenizer, context, config(**fields))
    found, too_long = tokenise(rows, tokenizer, context, config(**fields, on_long="drop"))
    assert too_long[1]
    assert found.completion_tokens.row(1).tolist()[:3] == [2, 3, 4]


def test_the_number_of_old_logprobs_tells_whether_the_end_was_sampled(tokenizer):
    old = Ragged.from_rows([[-1.0] * 3, [-1.0] * 2, [-1.0] * 9], np.float32)
    rows = rollouts(["ab", "ab", "ab"], old_logprobs=old, reward=np.array([1.0, 0.0, np.nan]))
    found, _ = tokenise(rows, tokenizer, None, config())
    assert found.completion_tokens.row(0).tolist() == [2, 3, END]
    assert found.completion_tokens.row(1).tolist() == [2, 3]
    assert found.completion_tokens.lengths[2] == 0


def test_tokens_of_the_file_stay_as_they_are(tokenizer):
    given = Ragged.from_rows([[9, 9]], np.int64)
    rows = rollouts(["ab"], completion_tokens=given)
    found, _ = tokenise(rows, tokenizer, None, config())
    assert found.completion_tokens.row(0).tolist() == [9, 9]
    assert found.prompt_tokens.row(0).tolist() == [2, 3]


def test_a_prompt_without_a_token_is_named(tokenizer):
    with pytest.raises(LengthError, match="prompt '' has no token"):
        tokenise(rollouts(["a"], prompts=[""]), tokenizer, None, config())


def ended(tokenizer, rows, **options):
    found, _ = tokenise(rows, tokenizer, None, config(max_completion_length=9), **options)
    last = [found.completion_tokens.row(place)[-1:] for place in range(found.n_rollouts)]
    return tokenizer.convert_ids_to_tokens(np.concatenate(last).tolist()), found


def test_a_completion_that_was_cut_off_is_never_taught_to_end():
    rows = rollouts(["ab", "ab"], truncated=np.array([True, False]))
    found = ended(alphabets.letters(), rows)[0]
    assert found == ["b", "</s>"]


def test_a_complete_one_gets_its_end_even_where_the_limit_leaves_no_room(tokenizer):
    rows = rollouts(["abcd"], truncated=np.array([False]))
    with pytest.raises(LengthError, match="completion of 5 tokens, max_completion_length is 4"):
        tokenise(rows, tokenizer, None, config())


@pytest.mark.parametrize("text", ["ab</s>", "ab<|im_end|>", "ab<|im_end|>\n", "<|im_end|>"])
def test_a_text_that_has_its_end_gets_no_second_one(text):
    tokenizer = alphabets.letters(chat_template=alphabets.CHATML)
    found = ended(tokenizer, rollouts([text]))[1].completion_tokens.row(0).tolist()
    assert found == tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("text", ["ab?", "ab?h", "a=2+2="])
def test_a_text_that_holds_a_stop_string_has_ended_with_it(text):
    tokenizer = alphabets.letters()
    ends = Ends.of(tokenizer, strings=["?", "+2="])
    found = ended(tokenizer, rollouts([text]), ends=ends)[1].completion_tokens.row(0).tolist()
    assert found == tokenizer(text, add_special_tokens=False)["input_ids"]


def test_tokens_that_end_with_a_stop_string_are_not_truncated():
    tokenizer = alphabets.letters()
    texts = ["ab?", "abc", "ab"]
    rows = tokenizer(texts, add_special_tokens=False)["input_ids"]
    rows[2].append(tokenizer.eos_token_id)
    given = rollouts(texts, completion_tokens=Ragged.from_rows(rows, np.int64))
    for strings, expected in ((["?"], [False, True, False]), ([], [True, True, False])):
        ends = Ends.of(tokenizer, strings=strings)
        found, _ = tokenise(given, tokenizer, None, config(), ends=ends)
        assert found.truncated.tolist() == expected


def test_a_chat_ends_with_the_token_that_its_template_ends_turns_with():
    tokenizer = alphabets.byte_level(chat_template=alphabets.CHATML)
    turns = [{"role": "user", "content": "2+2="}]
    prompt = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    turns.append({"role": "assistant", "content": "4"})
    whole = tokenizer.apply_chat_template(turns, tokenize=True, return_dict=False)
    stops = tokenizer.convert_tokens_to_ids(["</s>", "<|im_end|>"])
    for some in (None, stops, stops[:1]):
        ends = Ends.of(tokenizer, some)
        last, found = ended(tokenizer, rollouts(["4"], prompts=[prompt]), ends=ends)
        assert last == ["<|im_end|>"]
        tokens = [*found.prompt_tokens.row(0).tolist(), *found.completion_tokens.row(0).tolist()]
        assert tokens == whole[: len(tokens)]
        assert tokenizer.decode(whole[len(tokens) :]) == "\n"


def test_a_prompt_that_its_tokenizer_ends_goes_on_without_that_end():
    tokenizer = alphabets.letters("<s> $A </s>")
    rows = ended(tokenizer, rollouts(["cd"], prompts=["<s>ab"]))[1]
    prompt, completion = rows.prompt_tokens.row(0), rows.completion_tokens.row(0)
    assert tokenizer.convert_ids_to_tokens(prompt.tolist()) == ["<s>", "a", "b"]
    assert tokenizer.convert_ids_to_tokens(completion.tolist()) == ["c", "d", "</s>"]


def test_a_border_inside_a_token_is_refused_by_row_and_text():
    tokenizer = alphabets.byte_level()
    rows = rollouts(["on", "t on"], prompts=["the cat ", "the cat sa"], truncated=np.ones(2, bool))
    rows = replace(rows, source_rows=np.array([3, 17]), group_ids=["g7"])
    words = r"row 17, group 'g7': the border .* 'the cat sa' \+ 't on'; .* completion_tokens_column"
    with pytest.raises(LengthError, match=words):
        tokenise(replace(rows, prompts=["the cat", "the cat sa"]), tokenizer, None, config())


def test_truncation_is_what_the_tokens_of_the_file_tell():
    tokenizer = alphabets.letters()
    a, end = tokenizer.convert_tokens_to_ids(["a", "</s>"])
    given = Ragged.from_rows([[a, end], [a, a], []], np.int64)
    found, _ = tokenise(
        rollouts(["a", "aa", ""], completion_tokens=given), tokenizer, None, config()
    )
    assert found.truncated.tolist() == [False, True, False]
    untold, _ = tokenise(rollouts(["a"]), tokenizer, None, config())
    assert untold.truncated is None


@pytest.mark.parametrize("part", ["prompt_tokens", "completion_tokens"])
@pytest.mark.parametrize("token", [-1, 11])
def test_a_token_of_another_tokenizer_is_named_with_its_row(tokenizer, part, token):
    given = Ragged.from_rows([[2, 3], [], [3, token, 2]], np.int64)
    rows = rollouts(["a", "b", "c"], reward=np.array([0.0, np.nan, 1.0]), **{part: given})
    words = f"row 2 of the batch, group 0: {part} holds {token}, but .* has 11 tokens"
    with pytest.raises(ValueError, match=words):
        tokenise(rows, tokenizer, None, config())


def test_an_empty_prompt_of_the_file_is_named_with_its_row(tokenizer):
    given = Ragged.from_rows([[2], [], []], np.int64)
    rows = rollouts(["a", "b", "c"], reward=np.array([0.0, np.nan, 1.0]), prompt_tokens=given)
    with pytest.raises(LengthError, match="row 2 of the batch, group 0: prompt_tokens is empty"):
        tokenise(rows, tokenizer, None, config())
