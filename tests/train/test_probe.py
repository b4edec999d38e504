"""The probe: what a model sees is refused, how it rounds is not."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from fixtures.runs import configured
from fixtures.tiny_models import has, saved, tiny
from gspo_rs.train.model.policy import Policy, PolicyError, load
from gspo_rs.train.model.probe import mixes_packed, sees_ahead

pytestmark = pytest.mark.usefixtures("one_thread")

EXPERTS = ["mixtral", "qwen3_moe", "olmoe", "granitemoe", "jetmoe"]
WORDS = SimpleNamespace(all_special_ids=[0])


def subject(model, context):
    return Policy(model, WORDS, torch.device("cpu"), None, "padded", context, 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", EXPERTS)
def test_no_mixture_of_experts_is_refused_by_chance(kind):
    for seed in range(18):
        policy = subject(tiny(kind, seed, (0.02, 0.1, 0.5)[seed % 3]), 64)
        assert not sees_ahead(policy), seed
        assert not mixes_packed(policy), seed


@pytest.mark.soak
@pytest.mark.parametrize("kind", EXPERTS)
@pytest.mark.parametrize("std", [0.02, 0.1, 0.3, 1.0])
def test_none_of_many_mixtures_of_experts_is_refused(kind, std):
    for seed in range(60):
        policy = subject(tiny(kind, seed, std), 512)
        assert not sees_ahead(policy), seed
        assert not mixes_packed(policy), seed


class Attention(nn.Module):
    """One layer of attention under a mask `sees(i, j, start_i, start_j)`, and its head."""

    def __init__(self, sees, std, restarts):
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.words, self.places = nn.Embedding(11, 8), nn.Embedding(400, 8)
        self.mix = nn.ModuleList([nn.Linear(8, 8) for _ in range(4)])
        self.lm_head = nn.Linear(8, 11, bias=False)
        for weight in self.parameters():
            weight.data.copy_(torch.randn(weight.shape, generator=draw) * std)
        self.sees, self.restarts = sees, restarts
        config = SimpleNamespace(vocab_size=11)
        config.get_text_config = lambda: config
        self.config = config

    def get_output_embeddings(self):
        return self.lm_head

    def get_input_embeddings(self):
        return self.words

    def forward(self, input_ids, position_ids=None, use_cache=False):
        at = torch.arange(input_ids.shape[1])
        known = at if position_ids is None else position_ids[0]
        start = (known == 0).nonzero()[:, 0][(known == 0).cumsum(0) - 1]
        own = known if self.restarts else at
        x = self.words(input_ids) + self.places(own)
        q, k, v = (layer(x) for layer in self.mix[:3])
        given = at[:, None], at[None, :], start[:, None], start[None, :]
        mask = self.sees(*given) | (at[:, None] == at[None, :])
        score = (q @ k.transpose(1, 2) / 8**0.5).masked_fill(~mask, -torch.inf)
        x = x + self.mix[3](score.softmax(-1) @ v)
        return SimpleNamespace(logits=self.lm_head(x))


def attention(sees, std=0.02, *, restarts=True):
    return subject(Attention(sees, std, restarts), 400)


AHEAD = {
    "everything": lambda i, j, _a, _b: i >= 0 * j,
    "the next token": lambda i, j, _a, _b: j <= i + 1,
    "a prefix of ten": lambda i, j, _a, _b: (j <= i) | ((i < 10) & (j < 10)),
    "its block of 16": lambda i, j, _a, _b: (j <= i) | (i // 16 == j // 16),
    "the next, after 64 tokens": lambda i, j, _a, _b: (j <= i) | ((i > 64) & (j == i + 1)),
    "what is 65 and more ahead": lambda i, j, _a, _b: (j <= i) | (j - i > 64),
    "what is 200 and more ahead": lambda i, j, _a, _b: (j <= i) | (j - i > 200),
    "one token far ahead": lambda i, j, _a, _b: (j <= i) | (j == 300),
}


@pytest.mark.parametrize("std", [0.02, 0.5])
@pytest.mark.parametrize("sight", AHEAD)
def test_a_model_that_sees_ahead_is_told_however_far(sight, std):
    assert sees_ahead(attention(AHEAD[sight], std))


def test_weak_sight_shows_in_a_run_that_computes_in_less_than_float32():
    for sight in AHEAD.values():
        assert sees_ahead(replace(attention(sight), autocast=torch.bfloat16))
    causal = attention(lambda i, j, a, b: (j <= i) & (a == b))
    assert not sees_ahead(replace(causal, autocast=torch.bfloat16))
    assert not mixes_packed(replace(causal, autocast=torch.bfloat16))


@pytest.mark.parametrize("window", [1, 16, 400])
def test_a_causal_model_is_not_refused_whatever_its_window(window):
    for std in (0.02, 0.5):
        policy = attention(lambda i, j, a, b: (j <= i) & (i - j < window) & (a == b), std)
        assert not sees_ahead(policy)
        assert not mixes_packed(policy)


MIXED = {
    "the whole row": lambda i, j, _a, _b: j <= i,
    "what is 65 and more behind": lambda i, j, a, b: (j <= i) & ((a == b) | (i - j > 64)),
    "the one before it, late": lambda i, j, a, b: (j <= i) & ((a == b) | (i - a > 100)),
    "blocks of 16": lambda i, j, a, b: (j <= i) & ((a == b) | (i // 16 == j // 16)),
}


@pytest.mark.parametrize("leak", MIXED)
def test_a_model_that_mixes_packed_sequences_is_told_however_far(leak):
    policy = attention(MIXED[leak], 0.1)
    assert not sees_ahead(policy)
    assert mixes_packed(policy)


def test_a_model_that_counts_positions_through_a_pack_is_told():
    policy = attention(lambda i, j, a, b: (j <= i) & (a == b), restarts=False)
    assert mixes_packed(policy)


@pytest.mark.parametrize("kind", ["deepseek_v4", "rwkv", "bamba", "mamba2", "bart"])
def test_packing_is_refused_for_what_shows_only_in_longer_sequences(kind, letters, tmp_path):
    if not has(kind):
        pytest.skip(f"this transformers has no {kind}")
    folder = saved(tiny(kind, std=0.1), letters, tmp_path / kind)
    with pytest.raises(PolicyError, match="lets packed sequences see one another"):
        load(configured(folder, layout="packed"))
    assert load(configured(folder)).shape == "padded"


def test_a_head_that_scales_its_logits_otherwise_is_refused_before_anything_is_sampled(
    letters, tmp_path
):
    if not has("mpt"):
        pytest.skip("this transformers has no mpt")
    folder = saved(tiny("mpt", logit_scale=0.5), letters, tmp_path / "mpt")
    with pytest.raises(PolicyError, match=r"turns the output of its head into other logits"):
        load(configured(folder))
