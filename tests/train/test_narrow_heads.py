"""Attention of narrow heads is torch's, forward and backward, and is used where it may be."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from gspo_rs.rollouts.rollouts import Ragged
from gspo_rs.train.config.config import Config, resolve
from gspo_rs.train.model import narrow_heads
from gspo_rs.train.model.layers import recompute_activations
from gspo_rs.train.model.microbatch import collate
from gspo_rs.train.model.narrow_heads import attend, causal_attention
from gspo_rs.train.model.policy import load


def refuse(*_args, **_options):
    raise AssertionError("not by the products of a batch")


def case(rows, heads, groups, tokens, *, width=8, dtype=torch.float64, seed=0):
    """Query, keys and values as models lay them out, the gradient of what is found, a module."""
    draw = torch.Generator().manual_seed(seed)
    shapes = [(heads * groups, width), (heads, width), (heads, 5), (heads * groups, 5)]
    given = [torch.randn(rows, tokens, *shape, generator=draw).to(dtype) for shape in shapes]
    *inputs, grad = (one.transpose(1, 2) for one in given)
    module = torch.nn.Module()
    module.num_key_value_groups = groups
    return module, [one.requires_grad_() for one in inputs], grad


def with_gradients(found, inputs, grad):
    return [found.detach(), *torch.autograd.grad(found, inputs, grad)]


@given(
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 19),
    st.sampled_from([None, 0.3]),
    st.sampled_from([1, 5, 128]),
    st.sampled_from([1, 300, 2**18]),
)
def test_it_and_its_gradients_are_those_of_torch(
    rows, heads, groups, tokens, scaling, queries, scores
):
    module, inputs, grad = case(rows, heads, groups, tokens)
    expected, _ = sdpa_attention_forward(module, *inputs, None, scaling=scaling)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(narrow_heads, "QUERIES", queries)
        patch.setattr(narrow_heads, "SCORES", scores)
        found, weights = attend(module, *inputs, None, otherwise=refuse, scaling=scaling)
        ours = with_gradients(found, inputs, grad.transpose(1, 2))
    theirs = with_gradients(expected, inputs, grad.transpose(1, 2))
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-12)
    assert weights is None


def test_in_float32_it_is_as_near_to_float64_as_torch_is():
    def errors(attention):
        _, inputs, grad = case(4, 4, 2, 200, dtype=torch.float32)
        found = with_gradients(attention(*inputs), inputs, grad)
        return [
            (one - other).norm() / other.norm() for one, other in zip(found, exact, strict=True)
        ]

    def theirs(query, key, value):
        return scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)

    _, inputs, grad = case(4, 4, 2, 200)
    exact = with_gradients(theirs(*inputs), inputs, grad)
    ours = errors(lambda *given: causal_attention(*given, 8**-0.5))
    assert all(one < 2 * other for one, other in zip(ours, errors(theirs), strict=True))


@pytest.mark.parametrize(
    ("changed", "mask", "options"),
    [
        ({"width": 16}, None, {}),
        ({"dtype": torch.bfloat16}, None, {}),
        ({}, torch.ones(2, 1, 7, 7, dtype=torch.bool), {}),
        ({}, None, {"is_causal": False}),
        ({}, None, {"dropout": 0.1}),
        ({}, None, {"softcap": 3.0}),
    ],
)
def test_all_else_is_done_as_it_would_be(changed, mask, options):
    module, inputs, _ = case(2, 3, 2, 7, **changed)
    said = []

    def otherwise(*args, **kwargs):
        said.append((args, kwargs))
        return "as before"

    assert attend(module, *inputs, mask, otherwise=otherwise, **options) == "as before"
    assert said == [((module, *inputs, mask), options)]


def test_a_query_behind_tokens_that_are_held_is_done_as_it_would_be():
    module, (query, key, value), _ = case(2, 3, 2, 7)
    found = attend(module, query[:, :, -2:], key, value, None, otherwise=lambda *_: "as before")
    assert found == "as before"


@pytest.fixture
def policy(letters):
    return load(resolve(Config(model=str(letters), rollouts="r")))


def of_a_pass(policy):
    """Log-probabilities of two rows of unlike length, and the gradients of their sum."""
    texts = (Ragged.from_rows(rows, np.int64) for rows in ([[1, 2], [3]], [[4, 5, 6], [7, 8]]))
    batch = collate(*texts, np.arange(2), shape="padded")
    logprobs = policy.logprobs(batch)
    weights = list(policy.trainable().values())
    return with_gradients(logprobs.sum() + 0 * logprobs, weights, torch.ones_like(logprobs))


def test_a_pass_of_training_attends_by_it_and_leaves_the_model_as_it_was(policy, monkeypatch):
    monkeypatch.setattr(narrow_heads, "NARROW", 0)
    expected = of_a_pass(policy)
    seen = []

    def watched(*given):
        seen.append(given[0].shape)
        return causal_attention(*given)

    monkeypatch.setattr(narrow_heads, "NARROW", 64)
    monkeypatch.setattr(narrow_heads, "causal_attention", watched)
    torch.testing.assert_close(of_a_pass(policy), expected, rtol=1e-4, atol=1e-5)
    assert len(seen) == policy.model.config.num_hidden_layers
    assert policy.model.config._attn_implementation == "sdpa"


def test_activations_that_are_computed_again_are_those_of_torchs_attention(policy, monkeypatch):
    monkeypatch.setattr(narrow_heads, "NARROW", 64)
    monkeypatch.setattr(narrow_heads, "causal_attention", refuse)
    recompute_activations(policy.model, policy.read)
    of_a_pass(policy)
