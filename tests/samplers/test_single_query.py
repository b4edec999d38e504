"""Attention of single queries is torch's, and is used where the keys are laid out for it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from gspo_rs.samplers import single_query
from gspo_rs.samplers.single_query import attend, single_queries
from gspo_rs.samplers.transformers import generate

pytestmark = pytest.mark.usefixtures("one_thread")


def refuse(*_args, **_options):
    raise AssertionError("not by the products of a batch")


def case(rows, heads, groups, n, *, queries=1, width=8):
    """A module, and its query, keys laid out for single queries, and values."""
    torch.manual_seed(0)
    module = torch.nn.Module()
    module.num_key_value_groups = groups
    query = torch.randn(rows, queries, heads * groups, width, dtype=torch.float64)
    key = torch.randn(rows, heads, width, n + 3, dtype=torch.float64)[..., :n].transpose(2, 3)
    value = torch.randn(rows, heads, n + 3, 5, dtype=torch.float64)[:, :, :n]
    return module, query.transpose(1, 2), key, value


def masks(rows, n):
    """No mask, one that hides some tokens of each row, the same as numbers, and one for all."""
    shown = torch.rand(rows, 1, 1, n) < 0.6
    shown[..., -1] = True
    added = torch.zeros(rows, 1, 1, n, dtype=torch.float64).masked_fill(~shown, -1e300)
    return [None, shown, added, shown[:1]]


@given(
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(2, 9),
    st.sampled_from([None, 0.3]),
)
def test_it_is_the_attention_of_torch(rows, heads, groups, n, scaling):
    module, *given = case(rows, heads, groups, n)
    for mask in masks(rows, n):
        expected, _ = sdpa_attention_forward(module, *given, mask, scaling=scaling)
        found, weights = attend(
            module, *given, mask, otherwise=refuse, scaling=scaling, is_causal=True
        )
        assert found.shape == expected.shape
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
        assert weights is None


@pytest.mark.parametrize(
    ("changed", "options"),
    [
        ({"queries": 2}, {}),
        ({}, {"dropout": 0.1}),
        ({}, {"softcap": 3.0}),
        ({}, {"position_bias": torch.zeros(2, 6, 1, 4)}),
        ({"plain": True}, {}),
        ({"mask": torch.ones(2, 6, 1, 4, dtype=torch.bool)}, {}),
    ],
)
def test_all_else_is_done_as_it_would_be(changed, options):
    module, query, key, value = case(2, 3, 2, 4, queries=changed.get("queries", 1))
    if changed.get("plain"):
        key = key.contiguous()
    said = []

    def otherwise(*args, **kwargs):
        said.append((args, kwargs))
        return "as before"

    mask = changed.get("mask")
    found = attend(module, query, key, value, mask, otherwise=otherwise, **options)
    assert found == "as before"
    assert said == [((module, query, key, value, mask), options)]


@pytest.fixture
def model(letters):
    return AutoModelForCausalLM.from_pretrained(letters)


def test_it_changes_the_attention_of_that_model_alone_and_while_it_lasts(model, letters):
    before = dict(ALL_ATTENTION_FUNCTIONS), dict(ALL_MASK_ATTENTION_FUNCTIONS)
    other = AutoModelForCausalLM.from_pretrained(letters)
    with single_queries(model) as first, single_queries(model) as second:
        assert (first, second) == (True, True)
        assert model.config._attn_implementation == single_query._OURS
        assert other.config._attn_implementation == "sdpa"
        assert (dict(ALL_ATTENTION_FUNCTIONS), dict(ALL_MASK_ATTENTION_FUNCTIONS)) == before
    assert model.config._attn_implementation == "sdpa"


def test_what_it_does_not_do_is_done_by_the_attention_that_is_registered_for_torchs(
    model, monkeypatch
):
    seen = []

    def own(*args, **options):
        seen.append(args[1].shape[2])
        return sdpa_attention_forward(*args, **options)

    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, "sdpa", own)
    with single_queries(model), torch.no_grad():
        model(torch.tensor([[0, 1, 2]]))
    assert {*seen} == {3}


def test_a_model_that_attends_otherwise_is_left_alone(model):
    model.set_attn_implementation("eager")
    with single_queries(model) as used:
        assert not used
    model.set_attn_implementation("sdpa")
    with torch.autocast("cpu", torch.bfloat16), single_queries(model) as used:
        assert not used


def test_a_model_that_asks_for_the_name_of_its_attention_is_left_alone():
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 9}
    falcon = AutoModelForCausalLM.from_config(AutoConfig.for_model("falcon", **shape))
    assert falcon.config._attn_implementation == "sdpa"
    with single_queries(falcon) as used:
        assert not used
        assert falcon.config._attn_implementation == "sdpa"


def test_all_tokens_but_the_prompts_are_read_by_it(model, letters, monkeypatch):
    tokenizer, seen = AutoTokenizer.from_pretrained(letters), []

    def watched(module, query, *rest, **options):
        def counted(*args, **kwargs):
            seen.append(query.shape[2])
            return sdpa_attention_forward(*args, **kwargs)

        return attend(module, query, *rest, otherwise=counted, **options)

    options = {"num_generations": 3, "max_completion_length": 6, "seed": 0}
    expected = generate(model, tokenizer, ["abc", "b"], **options)
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, single_query._OURS, watched)
    found = generate(model, tokenizer, ["abc", "b"], **options)
    assert found.completions == expected.completions
    assert seen == [3]
