"""What is sampled for a prompt does not depend on what is sampled beside it."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM, AutoTokenizer

from fixtures.tiny_models import tiny
from gspo_rs.samplers.transformers import generate

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:.*has no cache"),
]

PROMPTS = ["abcdefgh", "ba", "c", "hg", "fedcba"]


@pytest.fixture(scope="module")
def tokenizer(letters):
    return AutoTokenizer.from_pretrained(letters)


@pytest.fixture(scope="module", params=["llama", "openai-gpt"])
def model(request, letters):
    """In float64, where padding moves no logit as far as float32 could hold it.

    One that is padded, and one whose prompts of each length are sampled by themselves.
    """
    if request.param == "llama":
        return AutoModelForCausalLM.from_pretrained(letters).double()
    return tiny(request.param, std=0.2).double()


def sampled(model, tokenizer, prompts=PROMPTS, **options):
    """The completions of each prompt as lists of tokens."""
    options = {"num_generations": 5, "max_completion_length": 12, "seed": 3} | options
    found = generate(model, tokenizer, prompts, **options)
    tokens = [found.completion_tokens.row(row).tolist() for row in range(found.n_rollouts)]
    size = options["num_generations"]
    return [tokens[first : first + size] for first in range(0, len(tokens), size)]


@pytest.fixture(scope="module")
def expected(model, tokenizer):
    return sampled(model, tokenizer)


@pytest.mark.parametrize("rows", [2, 7, 11, 1000])
def test_it_does_not_depend_on_how_many_rows_are_sampled_at_once(model, tokenizer, expected, rows):
    assert sampled(model, tokenizer, generation_batch=rows) == expected
    # All that differ would be equal if every row had the same random numbers.
    assert len({str(row) for group in expected for row in group}) > 15


def test_it_does_not_depend_on_the_order_of_the_prompts_or_on_which_are_there(
    model, tokenizer, expected
):
    order = [3, 0, 4, 2, 1]
    found = sampled(model, tokenizer, [PROMPTS[row] for row in order], prompt_numbers=order)
    assert found == [expected[row] for row in order]
    assert sampled(model, tokenizer, PROMPTS[2:3], prompt_numbers=[2]) == expected[2:3]
    short = sampled(model, tokenizer, max_prompt_length=4, on_long_prompt="drop")
    assert short == expected[1:4]


def test_more_generations_begin_with_those_of_fewer(model, tokenizer, expected):
    few = sampled(model, tokenizer, num_generations=2)
    assert few == [group[:2] for group in expected]


def test_another_number_or_seed_gives_other_completions(model, tokenizer, expected):
    assert sampled(model, tokenizer, prompt_numbers=range(5, 10)) != expected
    assert sampled(model, tokenizer, seed=4) != expected


@pytest.mark.parametrize("numbers", [[0, 1, 2, 3], [0, 1, 2, 3, 3], [0, 1, 2, 3, -4]])
def test_numbers_that_do_not_tell_prompts_apart_are_refused(model, tokenizer, numbers):
    with pytest.raises(ValueError, match="give 5, one for each prompt, none twice or negative"):
        sampled(model, tokenizer, prompt_numbers=numbers)


class Casts(TorchDispatchMode):
    """Counts how often each tensor of some addresses is cast."""

    def __init__(self, weights):
        super().__init__()
        self.counts = dict.fromkeys((weight.data_ptr() for weight in weights), 0)

    def __torch_dispatch__(self, function, _types, args=(), kwargs=None):
        # In inference mode a cast comes as the first of them, otherwise as the second.
        casts = (torch.ops.aten.to.dtype, torch.ops.aten._to_copy.default)
        if function in casts and args[0].data_ptr() in self.counts:
            self.counts[args[0].data_ptr()] += 1
        return function(*args, **(kwargs or {}))


def test_autocast_casts_each_weight_once_and_not_once_for_each_token(letters, tokenizer):
    model = AutoModelForCausalLM.from_pretrained(letters)
    weights = [part.weight for part in model.modules() if isinstance(part, torch.nn.Linear)]
    casts = Casts(weights)
    with torch.autocast("cpu", torch.bfloat16), casts:
        found = generate(
            model, tokenizer, PROMPTS, num_generations=2, max_completion_length=9, seed=0
        )
    assert found.completion_tokens.lengths.max() == 9
    assert len(weights) == 8
    assert set(casts.counts.values()) == {1}
    assert np.isfinite(found.sampler_logprobs.values).all()
