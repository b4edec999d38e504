"""Activations computed again in the backward pass: the same gradients, for another forward."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, OPTConfig, OPTForCausalLM

from fixtures.tiny_models import saved
from gspo_rs.train.config.config import Config, resolve
from gspo_rs.train.model import policy
from gspo_rs.train.model.layers import ActivationsError, recompute_activations, recomputes
from gspo_rs.train.model.policy import load


def walked(model, ids):
    """The gradients of a sum of logits, and how often the first layer's MLP ran for them."""
    runs = []
    model.model.layers[0].mlp.register_forward_pre_hook(lambda *_: runs.append(1))
    model(input_ids=ids, use_cache=False).logits.square().sum().backward()
    return [p.grad for p in model.parameters()], len(runs)


@pytest.mark.parametrize("lora_r", [0, 2])
def test_gradients_are_the_same_and_every_layer_runs_twice(letters, lora_r):
    ids, found = torch.tensor([[1, 4, 2, 5, 3]]), []
    for on in (False, True):
        torch.manual_seed(0)
        config = Config(model=str(letters), rollouts="r", lora_r=lora_r, gradient_checkpointing=on)
        model = load(resolve(config)).model
        found.append(walked(model.get_base_model() if lora_r else model, ids))
    assert (found[0][1], found[1][1]) == (1, 2)
    torch.testing.assert_close(found[1][0], found[0][0], rtol=0, atol=0)


def test_dropout_stays_off():
    shape = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 1}
    config = LlamaConfig(vocab_size=9, num_hidden_layers=1, attention_dropout=0.5, **shape)
    model = LlamaForCausalLM(config).eval()
    recompute_activations(model)
    ids = torch.arange(8)[None]
    one, two = (model(input_ids=ids, use_cache=False).logits for _ in range(2))
    torch.testing.assert_close(one, two, rtol=0, atol=0)


def test_a_layer_with_dropout_of_its_own_is_refused():
    shape = {"hidden_size": 8, "ffn_dim": 8, "num_attention_heads": 1, "word_embed_proj_dim": 8}
    model = OPTForCausalLM(OPTConfig(vocab_size=9, num_hidden_layers=1, dropout=0.9, **shape))
    with pytest.raises(ActivationsError, match="OPTForCausalLM computes something else"):
        recompute_activations(model.eval())


@pytest.mark.parametrize(
    ("asked", "on"), [(None, True), (False, False), (True, True)], ids=["default", "off", "on"]
)
def test_a_large_model_recomputes_unless_it_is_not_to(letters, monkeypatch, asked, on):
    def loaded():
        config = Config(model=str(letters), rollouts="r", gradient_checkpointing=asked)
        return recomputes(load(resolve(config)).model)

    assert loaded() == bool(asked)
    monkeypatch.setattr(policy, "LARGE", 100)
    assert loaded() == on


def test_a_large_model_that_cannot_recompute_keeps_its_activations(letters, tmp_path, monkeypatch):
    shape = {"hidden_size": 8, "ffn_dim": 8, "num_attention_heads": 1, "word_embed_proj_dim": 8}
    shape |= {"max_position_embeddings": 64, "dropout": 0.9, "num_hidden_layers": 1}
    folder = saved(OPTForCausalLM(OPTConfig(vocab_size=11, **shape)), letters, tmp_path / "opt")
    monkeypatch.setattr(policy, "LARGE", 1)
    model = load(resolve(Config(model=str(folder), rollouts="r"))).model
    assert not recomputes(model)
    asked = Config(model=str(folder), rollouts="r", gradient_checkpointing=True)
    with pytest.raises(ActivationsError, match="OPTForCausalLM computes something else"):
        load(resolve(asked))
