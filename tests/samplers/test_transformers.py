import copy
import logging

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    MistralConfig,
    MistralForCausalLM,
)

from gspo_rs.samplers.transformers import generate

# Of different lengths, and "" is its first special token alone: a row of one token, all padding
# to its left.
PROMPTS = ["Once upon a time there was a little dog named Max. He", "", "Tom had a ball. It"]


@pytest.fixture(scope="module")
def tokenizer(stories):
    return AutoTokenizer.from_pretrained(stories)


@pytest.fixture(scope="module")
def pretrained(stories):
    return AutoModelForCausalLM.from_pretrained(stories)


@pytest.fixture
def model(pretrained):
    return copy.deepcopy(pretrained)


def sample(model, tokenizer, prompts=PROMPTS, **options):
    options = {"num_generations": 4, "max_completion_length": 12, "seed": 0} | options
    return generate(model, tokenizer, prompts, **options)


@torch.no_grad()
def forward_logprobs(model, rollouts, row, temperature):
    """One row alone, without padding or cache, in float64."""
    prompt, completion = rollouts.prompt_tokens.row(row), rollouts.completion_tokens.row(row)
    ids = torch.tensor(np.concatenate([prompt, completion]))[None]
    logits = model(ids).logits[0, len(prompt) - 1 : -1] / temperature
    return torch.log_softmax(logits, -1).gather(1, torch.tensor(completion)[:, None])[:, 0].numpy()


def assert_logprobs_are_those_of_a_fresh_forward(model, rollouts, temperature=1.0):
    exact = copy.deepcopy(model).eval().double()
    for row in range(rollouts.n_rollouts):
        expected = forward_logprobs(exact, rollouts, row, temperature)
        assert_allclose(rollouts.sampler_logprobs.row(row), expected, rtol=1e-5, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.7},
        {"temperature": 1.3, "top_k": 5},
        {"top_p": 0.8},
        {"generation_batch": 9},
        {"num_generations": 1},
    ],
)
def test_sampler_logprobs_are_those_of_a_fresh_forward(model, tokenizer, options):
    rollouts = sample(model, tokenizer, **options)
    assert_logprobs_are_those_of_a_fresh_forward(model, rollouts, options.get("temperature", 1.0))


SMALL = {"vocab_size": 512, "bos_token_id": 1, "eos_token_id": 2}


@pytest.mark.parametrize(
    "build",
    [
        lambda: GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=2, **SMALL)),
        lambda: MistralForCausalLM(
            MistralConfig(
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                sliding_window=6,
                **SMALL,
            )
        ),
    ],
    ids=["absolute positions", "sliding window"],
)
def test_sampler_logprobs_are_right_for_other_kinds_of_model(build, tokenizer):
    torch.manual_seed(0)
    model = build()
    assert_logprobs_are_those_of_a_fresh_forward(model, sample(model, tokenizer))


def test_sampler_logprobs_are_those_of_the_adapted_model(model, tokenizer):
    torch.manual_seed(0)
    adapted = get_peft_model(model, LoraConfig(target_modules=["q_proj"], init_lora_weights=False))
    rollouts = sample(adapted, tokenizer)
    assert_logprobs_are_those_of_a_fresh_forward(adapted, rollouts)
    with adapted.disable_adapter():
        plain = forward_logprobs(adapted, rollouts, 0, 1.0)
    assert np.abs(plain - rollouts.sampler_logprobs.row(0)).max() > 0.01


def test_rows_come_group_after_group_in_the_order_of_the_prompts(model, tokenizer):
    rollouts = sample(model, tokenizer)
    assert_array_equal(rollouts.offsets, [0, 4, 8, 12])
    assert rollouts.prompts == [prompt for prompt in PROMPTS for _ in range(4)]
    assert list(rollouts.group_ids) == [0, 1, 2]
    assert np.isnan(rollouts.reward).all()
    for row, prompt in enumerate(rollouts.prompts):
        assert rollouts.prompt_tokens.row(row).tolist() == tokenizer(prompt)["input_ids"]
        tokens = [*rollouts.prompt_tokens.row(row), *rollouts.completion_tokens.row(row)]
        assert prompt + rollouts.completions[row] == tokenizer.decode(
            tokens, skip_special_tokens=True
        )


def test_a_seed_determines_the_completions_and_leaves_the_global_state_alone(model, tokenizer):
    state = torch.get_rng_state()
    first, second, other = (sample(model, tokenizer, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert_array_equal(first.completion_tokens.values, second.completion_tokens.values)
    assert first.completions != other.completions


def test_without_a_seed_the_global_state_determines_the_completions(model, tokenizer):
    runs = []
    torch.manual_seed(5)
    state = torch.get_rng_state()
    for _ in range(2):
        torch.set_rng_state(state)
        runs.append(sample(model, tokenizer, seed=None).completions)
    assert runs[0] == runs[1]
    assert runs[0] != sample(model, tokenizer, seed=None).completions


def test_a_completion_has_its_end_token_and_nothing_after_it(model, tokenizer):
    ends = tokenizer(". he to a and", add_special_tokens=False)["input_ids"]
    model.generation_config.eos_token_id = ends
    ends = {*ends, tokenizer.eos_token_id}
    rollouts = sample(model, tokenizer, num_generations=16)
    for row in range(rollouts.n_rollouts):
        tokens = rollouts.completion_tokens.row(row).tolist()
        assert ends.isdisjoint(tokens[:-1])
        assert rollouts.truncated[row] == (tokens[-1] not in ends)
        assert len(tokens) == 12 or not rollouts.truncated[row]
    assert 0 < rollouts.truncated.mean() < 1
    assert_logprobs_are_those_of_a_fresh_forward(model, rollouts)


def test_a_tokenizer_needs_neither_a_pad_nor_an_end_token(model, tokenizer):
    expected = sample(model, tokenizer)
    bare = copy.deepcopy(tokenizer)
    bare.pad_token = None
    assert sample(model, bare).completions == expected.completions
    bare.eos_token = None
    model.generation_config.eos_token_id = None
    rollouts = sample(model, bare)
    assert (rollouts.completion_tokens.lengths == 12).all()
    assert rollouts.truncated.all()


def test_generation_defaults_that_came_with_the_model_do_not_change_the_policy(model, tokenizer):
    expected = sample(model, tokenizer).completions
    model.generation_config.repetition_penalty = 5.0
    model.generation_config.temperature = 0.1
    model.generation_config.min_new_tokens = 3
    before = model.generation_config.to_dict()
    assert sample(model, tokenizer).completions == expected
    assert model.generation_config.to_dict() == before


def test_the_modes_of_the_modules_are_handed_back_and_the_cache_is_used(model, tokenizer):
    expected = sample(model, tokenizer).completions
    model.gradient_checkpointing_enable()
    model.config.use_cache = False
    model.train()
    model.model.layers[0].eval()
    modes = [module.training for module in model.modules()]
    widths = []
    model.model.embed_tokens.register_forward_pre_hook(
        lambda _, inputs: widths.append(inputs[0].shape[1])
    )
    assert sample(model, tokenizer).completions == expected
    assert [module.training for module in model.modules()] == modes
    assert set(widths[1:]) == {1}  # after the prompts, one token at a time


def test_a_prompt_that_is_too_long_is_named_with_its_row_and_length(model, tokenizer):
    length = len(tokenizer(PROMPTS[0])["input_ids"])
    with pytest.raises(ValueError, match=rf"row 0 has {length} tokens, the limit is 9.*'Once upon"):
        sample(model, tokenizer, max_prompt_length=9)
    with pytest.raises(ValueError, match=rf"row 0 has {length} tokens, the limit is 12"):
        sample(model, tokenizer, max_completion_length=500)


def test_a_prompt_that_is_dropped_is_logged_and_told_by_the_group_ids(model, tokenizer, caplog):
    with caplog.at_level(logging.WARNING):
        rollouts = sample(model, tokenizer, max_prompt_length=12, on_long_prompt="drop")
    assert "dropped 1 of 3 prompts: prompt of row 0" in caplog.text
    assert list(rollouts.group_ids) == [1, 2]
    assert rollouts.prompts[0] == PROMPTS[1]
    none = sample(model, tokenizer, PROMPTS[:1], max_prompt_length=12, on_long_prompt="drop")
    assert (none.n_groups, none.n_rollouts, len(none.completion_tokens)) == (0, 0, 0)


def test_a_prompt_without_a_token_is_named(model, tokenizer):
    bare = copy.deepcopy(tokenizer)
    bare.backend_tokenizer.post_processor = None
    with pytest.raises(ValueError, match="prompt of row 1 has no token: ''"):
        sample(model, bare)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature = 0.0: must be above 0"),
        ({"top_p": 0.0}, "top_p = 0.0: must be above 0 and at most 1"),
        ({"num_generations": 0}, "num_generations = 0 .* at least 1"),
        ({"generation_batch": 0}, "generation_batch = 0: must be at least 1"),
    ],
)
def test_options_out_of_their_range_are_refused(model, tokenizer, options, message):
    with pytest.raises(ValueError, match=message):
        sample(model, tokenizer, **options)


def test_a_model_whose_logits_are_not_finite_is_refused(model, tokenizer):
    with torch.no_grad():
        model.model.norm.weight.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="logits are not finite"):
        sample(model, tokenizer)


def test_a_head_that_is_padded_beyond_the_tokenizer_samples_its_tokens_alone(letters):
    model = AutoModelForCausalLM.from_pretrained(letters)
    tokenizer = AutoTokenizer.from_pretrained(letters)
    known = len(tokenizer)
    model.resize_token_embeddings(known + 53)
    with torch.no_grad():
        rows = model.get_output_embeddings().weight
        rows[known:] = rows[:known].repeat(5, 1)[:53]  # five of six draws would be beyond
    options = {"num_generations": 20, "max_completion_length": 12}
    rollouts = sample(model, tokenizer, ["ab", "c"], **options)
    assert rollouts.completion_tokens.values.max() < known
    assert len(set(rollouts.completion_tokens.values.tolist())) > 5
    assert_logprobs_are_those_of_a_fresh_forward(model, rollouts)
