"""Scored texts as tokens: the model's own, ended where they were complete, and none cut."""

import numpy as np
import pytest
from transformers import AutoTokenizer

from gspo_rs.config import Config
from gspo_rs.rollouts import Ragged, Rollouts
from gspo_rs.tokens import LengthError, tokenise

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
