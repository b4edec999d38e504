"""Weights in bfloat16: steps too small for them add up, and nothing is lost between runs."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model

from fixtures.runs import configured, make, records, weights
from gspo_rs.train import train
from gspo_rs.train.config.config import ConfigError
from gspo_rs.train.config.toml import load
from gspo_rs.train.model import policy as policies
from gspo_rs.train.step import master_weights
from gspo_rs.train.step.master_weights import REST, joined, split
from gspo_rs.train.step.optimizer import make_optimizer
from train.test_update import loss_and_gradient, make_policy, make_training_batch

BFLOAT16 = {"weights": "bfloat16"}


@given(st.lists(st.floats(width=32, min_value=-(2.0**100), max_value=2.0**100), min_size=1))
def test_a_float32_number_is_its_nearest_bfloat16_and_a_rest(values):
    master = torch.tensor(values, dtype=torch.float32)
    upper, rest = split(master)
    assert torch.equal(joined(upper, rest).view(torch.int32), master.view(torch.int32))
    # PyTorch rounds to the nearest as well, and differs at most where two are as near.
    apart = [(x.double() - master.double()).abs() for x in (upper, master.bfloat16())]
    assert torch.equal(*apart)


def stepped(parameter, optimizer, gradients):
    for gradient in gradients:
        parameter.grad = gradient.to(parameter.dtype)
        master_weights.step(optimizer)
    return parameter


def optimizer_of(parameter):
    return torch.optim.AdamW([parameter], lr=1e-4, weight_decay=0.0, fused=True)


def test_small_updates_add_up_which_bfloat16_alone_rounds_away():
    gradients = [torch.ones(4)] * 100
    plain = torch.nn.Parameter(torch.ones(4, dtype=torch.bfloat16))
    optimizer = optimizer_of(plain)
    for gradient in gradients:
        plain.grad = gradient.bfloat16()
        optimizer.step()
    assert (plain == 1).all()
    found = torch.nn.Parameter(torch.ones(4, dtype=torch.bfloat16))
    stepped(found, optimizer_of(found), gradients)
    # With one gradient all along, AdamW moves by its learning rate: 100 times 1e-4.
    np.testing.assert_allclose(found.detach().float(), 0.99, atol=2**-9)
    assert found.grad is None


def test_a_step_is_that_of_float32_weights_with_the_same_gradients():
    draw = torch.Generator().manual_seed(0)
    start = torch.randn(3, 5, generator=draw).bfloat16()
    gradients = [torch.randn(3, 5, generator=draw).bfloat16() for _ in range(20)]
    wide = torch.nn.Parameter(start.float())
    stepped(wide, optimizer_of(wide), gradients)
    narrow = torch.nn.Parameter(start.clone())
    optimizer = optimizer_of(narrow)
    stepped(narrow, optimizer, gradients)
    assert torch.equal(joined(narrow.data, optimizer.state[narrow][REST]), wide.data)


def test_of_mixed_weights_only_those_in_bfloat16_have_a_rest():
    layer = torch.nn.Sequential(torch.nn.Linear(2, 2).bfloat16(), torch.nn.Linear(2, 2))
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1, fused=True)
    before = copy.deepcopy(layer.state_dict())
    for parameter in layer.parameters():
        parameter.grad = torch.ones_like(parameter)
    master_weights.step(optimizer)
    rests = {name: REST in optimizer.state[p] for name, p in layer.named_parameters()}
    assert rests == {"0.weight": True, "0.bias": True, "1.weight": False, "1.bias": False}
    assert all((before[name] != p).all() for name, p in layer.named_parameters())


def plain_gradient(policy, given):
    """The gradient at ratios of 1, sequence by sequence from all logits, without this package."""
    policy.model.zero_grad(set_to_none=True)
    for row, factor in enumerate((given.weights * given.advantages).tolist()):
        prompt, completion = given.prompts.row(row), given.completions.row(row)
        ids = torch.from_numpy(np.concatenate([prompt, completion]))[None]
        with policy.computing():
            logits = policy.model(input_ids=ids).logits[0, len(prompt) - 1 : -1]
        wide = logits.float() if logits.dtype == torch.bfloat16 else logits
        found = torch.distributions.Categorical(logits=wide / policy.temperature)
        (-factor * found.log_prob(ids[0, len(prompt) :]).sum()).backward()
    return torch.cat([p.grad.flatten() for p in policy.trainable().values()]).double()


@pytest.mark.parametrize("algorithm", ["gspo", "grpo"])
@pytest.mark.parametrize("adapted", [False, True], ids=["whole", "lora"])
def test_a_gradient_in_bfloat16_is_as_near_to_that_in_float64_as_plain_pytorch(algorithm, adapted):
    given, config = make_training_batch(n=6, old=False), configured(algorithm=algorithm)
    policy = make_policy(dtype=torch.bfloat16)
    if adapted:
        torch.manual_seed(0)
        adapter = LoraConfig(r=2, target_modules=["q_proj", "up_proj"], init_lora_weights=False)
        policy = replace(policy, model=get_peft_model(policy.model, adapter).eval())
    policy = replace(policy, autocast=torch.bfloat16)
    exact = replace(policy, model=copy.deepcopy(policy.model).double(), autocast=None)
    expected = plain_gradient(exact, given)
    size = torch.linalg.vector_norm(expected)
    plain = torch.linalg.vector_norm(plain_gradient(policy, given) - expected) / size
    found = loss_and_gradient(policy, given, config)[1]
    assert found.dtype == (torch.float32 if adapted else torch.bfloat16)
    apart = torch.linalg.vector_norm(found.double() - expected) / size
    assert apart < max(1.25 * plain, 2**-6)
    torch.testing.assert_close(loss_and_gradient(exact, given, config)[1], expected)


@pytest.mark.parametrize("fields", [{}, {"lora_r": 2}])
def test_weights_are_bfloat16_and_adapters_on_them_float32(letters, fields):
    policy = policies.load(configured(letters, **BFLOAT16, **fields))
    assert policy.autocast == torch.bfloat16
    kinds = {
        trained: {p.dtype for p in policy.model.parameters() if p.requires_grad == trained}
        for trained in (True, False)
    }
    if fields:
        assert kinds == {True: {torch.float32}, False: {torch.bfloat16}}
    else:
        assert kinds == {True: {torch.bfloat16}, False: set()}


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("fields", [{}, {"lora_r": 2}, {"rollouts": "scored.parquet"}])
def test_a_run_that_goes_on_has_the_bits_of_one_that_was_not_stopped(letters, tmp_path, fields):
    settings = {**BFLOAT16, **fields, "eval_size": 0, "max_steps": 6}
    train(load(make(tmp_path / "whole", letters, **settings)))
    path = make(tmp_path / "again", letters, **settings)
    train(load(path, ["max_steps=4"]))
    train(load(path), resume=True)
    folders = [tmp_path / name / "run" for name in ("whole", "again")]
    assert weights(folders[1] / "final") == weights(folders[0] / "final")
    assert records(folders[1]) == records(folders[0])


def test_an_optimizer_of_bfloat16_weights_keeps_float32_numbers(letters):
    config = configured(letters, **BFLOAT16)
    policy = policies.load(config)
    optimizer = make_optimizer(policy, config)
    for parameter in policy.trainable().values():
        parameter.grad = torch.ones_like(parameter)
    master_weights.step(optimizer)
    kinds = {key: t.dtype for s in optimizer.state.values() for key, t in s.items()}
    assert kinds.pop(REST) == torch.int16
    assert set(kinds.values()) == {torch.float32}


def test_bfloat16_weights_are_not_computed_in_float32(letters):
    with pytest.raises(ConfigError, match="dtype = 'float32': weights in bfloat16"):
        configured(letters, **BFLOAT16, dtype="float32")
