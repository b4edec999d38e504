"""A completion ends with the token that completes a stop string in its text."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from transformers import AutoModelForCausalLM, AutoTokenizer

from fixtures.alphabets import KINDS, letters
from fixtures.tiny_models import random_llama
from gspo_rs.samplers.detokenize import completion_texts
from gspo_rs.samplers.special_tokens import text_rows
from gspo_rs.samplers.stop_strings import as_strings
from gspo_rs.samplers.transformers import generate

PROMPTS = ["the cat", "2+2=", "Once upon a time there"]
OPTIONS = {"num_generations": 6, "max_completion_length": 10, "seed": 0}


def first_stops(tokenizer, rollouts, strings):
    """Tokens of each row when its text first has a string, found prefix by prefix; None without."""
    found, alone = [], text_rows(tokenizer, rollouts.prompts)
    for row in range(rollouts.n_rollouts):
        tokens = rollouts.completion_tokens.row(row).tolist()
        tokens = tokens[: len(tokens) - (not rollouts.truncated[row])]
        prefixes = [tokens[:n] for n in range(1, len(tokens) + 1)]
        again = [rollouts.prompts[row]] * len(prefixes), [alone[row]] * len(prefixes)
        texts = completion_texts(tokenizer, *again, prefixes)
        hits = [n for n, text in enumerate(texts, 1) if any(one in text for one in strings)]
        found.append(min(hits, default=None))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_completion_is_the_one_without_stop_strings_up_to_the_first_in_its_text(kind):
    tokenizer = KINDS[kind]()
    model = random_llama(len(tokenizer), dtype=torch.float32)
    whole = generate(model, tokenizer, PROMPTS, **OPTIONS)
    # Pieces of what is sampled, wherever they begin and end, and two that may not be there.
    draw = np.random.default_rng(0)
    pieces = [max(text.split("�"), key=len) for text in whole.completions[::2]]
    cuts = [int(draw.integers(0, max(len(piece) - 2, 1))) for piece in pieces]
    strings = [piece[cut : cut + 3] for piece, cut in zip(pieces, cuts, strict=True)]
    strings = [*filter(None, strings), "é", " a"]
    expected = first_stops(tokenizer, whole, strings)
    assert sum(cut is not None for cut in expected) > 3
    assert None in expected
    for rows in (None, 1, 4):
        found = generate(model, tokenizer, PROMPTS, **OPTIONS, stop=strings, generation_batch=rows)
        for row, cut in enumerate(expected):
            tokens = whole.completion_tokens.row(row)
            cut = len(tokens) if cut is None else cut
            assert_array_equal(found.completion_tokens.row(row), tokens[:cut])
            logprobs = whole.sampler_logprobs.row(row)[:cut]
            np.testing.assert_allclose(
                found.sampler_logprobs.row(row), logprobs, rtol=1e-5, atol=1e-5
            )
            stopped = expected[row] is not None
            assert found.truncated[row] == (whole.truncated[row] and not stopped)
            assert any(one in found.completions[row] for one in strings) == stopped


def test_stop_strings_leave_the_draws_of_the_other_rows_as_they_are(stories):
    model = AutoModelForCausalLM.from_pretrained(stories)
    tokenizer = AutoTokenizer.from_pretrained(stories)
    whole = generate(model, tokenizer, ["Once upon", "Tom"], **OPTIONS)
    found = generate(model, tokenizer, ["Once upon", "Tom"], **OPTIONS, stop="he")
    cuts = first_stops(tokenizer, whole, ["he"])
    assert found.completion_tokens.lengths.tolist() == [
        cut or length for cut, length in zip(cuts, whole.completion_tokens.lengths, strict=True)
    ]
    assert 0 < found.truncated.sum() < found.n_rollouts


def test_a_stop_string_that_is_a_token_of_its_own_ends_as_an_end_token_does():
    tokenizer = letters()
    model = random_llama(len(tokenizer), dtype=torch.float32)
    model.generation_config.eos_token_id = None
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    options = {"num_generations": 40, "max_completion_length": 20, "seed": 0}
    found = generate(model, tokenizer, ["ab"], **options, stop=["<|im_end|>"])
    ended = [found.completion_tokens.row(row)[-1] == end for row in range(found.n_rollouts)]
    assert sum(ended) > 5
    for row in np.flatnonzero(ended):
        assert not found.truncated[row]
        assert "<|im_end|>" not in found.completions[row]
        assert (found.completion_tokens.row(row)[:-1] != end).all()


@pytest.mark.parametrize("stop", ["", ["a", ""], [3], [None]])
def test_what_no_text_can_hold_is_refused(stop):
    with pytest.raises(ValueError, match=r"stop = .*no text at which to stop"):
        as_strings(stop)
