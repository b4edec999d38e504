"""What the loop reads: each prompt once, and no row that is over for long."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from fixtures.tiny_models import tiny
from gspo_rs.samplers.completions import Completions
from gspo_rs.samplers.transformers import generate

pytestmark = pytest.mark.usefixtures("one_thread")
PROMPTS = ["abcdefgh", "ba", "cab"]


def reads(model, tokenizer, **options):
    """What is sampled, and the rows and columns of every forward pass."""
    shapes = []
    embedding = model.get_input_embeddings()
    hook = embedding.register_forward_pre_hook(lambda _, given: shapes.append(given[0].shape))
    found = generate(model, tokenizer, PROMPTS, seed=1, **options)
    hook.remove()
    return found, [tuple(shape) for shape in shapes]


def assert_rows_leave(found, shapes):
    """A pass for token t reads the rows that had not ended, and at most a quarter more."""
    assert shapes[0] == (3, 8)  # each prompt once, padded to the longest
    lengths = found.completion_tokens.lengths
    for position, (rows, columns) in enumerate(shapes[1:], start=1):
        going = int((lengths > position).sum())
        assert columns == 1
        assert going <= rows <= going / 0.75
    assert len(shapes) == lengths.max()
    assert shapes[-1][0] < len(lengths)


@pytest.mark.parametrize("kind", ["llama", "mistral", "gemma3_text", "gpt2"])
def test_a_prompt_is_read_once_and_rows_that_are_over_leave(kind, letters):
    tokenizer = AutoTokenizer.from_pretrained(letters)
    model = AutoModelForCausalLM.from_pretrained(letters) if kind == "llama" else tiny(kind)
    found, shapes = reads(model, tokenizer, num_generations=16, max_completion_length=24)
    assert_rows_leave(found, shapes)
    # That is all the difference that it makes: alone, no row leaves before it is over.
    for number, prompt in enumerate(PROMPTS):
        for generations in (1, 3):
            alone = generate(
                model.double(),
                tokenizer,
                [prompt],
                num_generations=generations,
                max_completion_length=24,
                prompt_numbers=[number],
                seed=1,
            )
            place = 16 * number + generations - 1
            one = alone.completion_tokens.row(generations - 1)
            assert one.tolist() == found.completion_tokens.row(place).tolist()
            np.testing.assert_allclose(
                alone.sampler_logprobs.row(generations - 1),
                found.sampler_logprobs.row(place),
                atol=1e-5,
            )
        model.float()


@pytest.mark.parametrize("kind", ["mamba2", "bamba"])
def test_rows_of_other_memory_read_their_prompts_and_stay(kind, letters):
    tokenizer = AutoTokenizer.from_pretrained(letters)
    found, shapes = reads(tiny(kind), tokenizer, num_generations=4, max_completion_length=8)
    assert {rows for rows, _ in shapes} == {4}  # prompts of three lengths, one after the other
    assert found.n_rollouts == 12


def test_tokens_after_the_end_of_a_row_that_has_not_left_are_not_counted():
    completions = Completions(8, 5, ends=[0, 9])
    completions.add(torch.tensor([9, *[1] * 7]), torch.zeros(8))
    assert completions.leave() is None  # one of eight
    completions.add(torch.tensor([3, 0, *[1] * 6]), torch.zeros(8))
    assert completions.leave().tolist() == [2, 3, 4, 5, 6, 7]
    for _ in range(3):
        completions.add(torch.tensor([4] * 6), torch.zeros(6))
    assert completions.full
    drawn = completions.drawn()
    assert [row.tokens.tolist() for row in drawn[:3]] == [[9], [1, 0], [1, 1, 4, 4, 4]]
    assert [row.ended for row in drawn] == [True, True, *[False] * 6]
