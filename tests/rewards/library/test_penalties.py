import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trl.rewards import get_repetition_penalty_reward, get_soft_overlong_punishment

from gspo_rs.rewards.library import overlong_penalty, repetition_penalty


@given(st.lists(st.integers(0, 60), max_size=8), st.integers(1, 20))
def test_a_long_completion_loses_what_trl_takes_from_so_many_tokens(lengths, cache):
    oracle = get_soft_overlong_punishment(40, cache)([[0] * n for n in lengths])
    found = overlong_penalty(completions=["a" * n for n in lengths], limit=40, cache=cache)
    np.testing.assert_allclose(found, oracle, rtol=1e-15)


@given(st.lists(st.lists(st.sampled_from("abC"), max_size=12), max_size=5), st.integers(1, 4))
def test_a_repetition_costs_what_trl_takes_of_tokens_that_are_words(words, ngram):
    ids = [[ord(word.lower()) for word in some] for some in words]
    oracle = get_repetition_penalty_reward(ngram, -0.5)(ids)
    said = [" ".join(some) for some in words]
    found = repetition_penalty(completions=said, ngram=ngram, lowest=-0.5)
    np.testing.assert_allclose(found, oracle, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("function", "wrong"),
    [
        (overlong_penalty, {"limit": 10, "cache": 20}),
        (overlong_penalty, {"cache": 0}),
        (repetition_penalty, {"ngram": 0}),
        (repetition_penalty, {"lowest": 1.0}),
    ],
)
def test_a_penalty_that_would_be_none_is_refused(function, wrong):
    with pytest.raises(ValueError, match=rf"{next(iter(wrong))} (is|\d)"):
        function(completions=["a"], **wrong)
