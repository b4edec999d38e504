"""AdamW with moments of a byte: as AdamW but for the rounding of what it keeps."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from fixtures.runs import configured, make, records, weights
from gspo_rs.train import train
from gspo_rs.train.config.toml import load
from gspo_rs.train.memory import measured
from gspo_rs.train.model import policy as policies
from gspo_rs.train.step import master_weights
from gspo_rs.train.step.adamw_8bit import BLOCK, AdamW8bit, dequantise, quantise, state_bytes
from gspo_rs.train.step.optimizer import make_optimizer

ADAM = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01}
EIGHT = {"optimizer": "adamw_8bit"}


@pytest.fixture(scope="module")
def larger(letters, tmp_path_factory):
    """A model with a few matrices large enough to have their moments in bytes."""
    folder = tmp_path_factory.mktemp("larger")
    tokenizer = AutoTokenizer.from_pretrained(letters)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "intermediate_size": 72, "num_hidden_layers": 1}
    shape |= {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 64}
    ends = {"bos_token_id": None, "eos_token_id": 0, "pad_token_id": None}
    config = LlamaConfig(vocab_size=len(tokenizer), initializer_range=0.2, **shape, **ends)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def levels(*, signed):
    """All levels there are, from a block that has each of 256 codes."""
    codes = torch.arange(256, dtype=torch.uint8)
    return dequantise(codes, torch.ones(1), signed=signed).double().numpy()


@pytest.mark.parametrize("signed", [False, True])
def test_a_number_is_rounded_to_the_nearest_level_of_its_block(signed):
    draw = np.random.default_rng(0)
    values = (draw.normal(size=3 * BLOCK - 7) * 10.0 ** draw.integers(-6, 3)).astype(np.float32)
    values = values if signed else np.abs(values)
    values[:BLOCK] *= 1e-9
    codes, scales = quantise(torch.from_numpy(values), signed=signed)
    found = dequantise(codes, scales, signed=signed).double().numpy()
    for start, block in enumerate(scales.double().numpy()):
        rows = slice(start * BLOCK, (start + 1) * BLOCK)
        assert block == np.abs(values[rows]).max()
        apart = np.abs(values[rows, None] / block - levels(signed=signed))
        np.testing.assert_allclose(
            np.abs(values[rows] - found[rows]) / block, apart.min(1), atol=1e-7
        )


@pytest.mark.parametrize("signed", [False, True])
def test_levels_are_near_one_another_over_six_decades(signed):
    known = levels(signed=signed)
    assert {0.0, 1.0} <= set(known)
    assert (np.diff(known) > 0).all()
    assert signed == (known < 0).any()
    above = known[known > 1e-2]
    assert max(b / a for a, b in pairwise(above)) < 1.25
    assert known[known > 0].min() < 1e-6


def test_zeros_stay_zeros():
    codes, scales = quantise(torch.zeros(BLOCK + 3), signed=True)
    assert (dequantise(codes, scales, signed=True) == 0).all()


def walked(optimizer, parameter, gradients):
    places = []
    for gradient in gradients:
        parameter.grad = gradient.to(parameter.dtype)
        master_weights.step(optimizer)
        places.append(parameter.detach().double().clone())
    return torch.stack(places)


def walks(n, steps, dtype=torch.float32, *, decades=1):
    draw = torch.Generator().manual_seed(0)
    start = torch.randn(n, generator=draw)
    sizes = 10 ** (torch.rand(n, generator=draw) * decades - 5)
    gradients = [torch.randn(n, generator=draw) * sizes for _ in range(steps)]
    found = []
    for make_one in (AdamW8bit, torch.optim.AdamW):
        parameter = torch.nn.Parameter(start.to(dtype, copy=True))
        optimizer = make_one([parameter], **ADAM)
        found.append(walked(optimizer, parameter, gradients))
        if dtype == torch.bfloat16:
            rest = optimizer.state[parameter][master_weights.REST]
            found[-1][-1] = master_weights.joined(parameter.detach(), rest)
    return found


def test_the_first_step_is_exactly_that_of_adamw_and_later_ones_but_for_rounding():
    # Several chunks, and a last block that is not whole.
    eight, whole = walks(2**18 + 1000, 30)
    torch.testing.assert_close(eight[0], whole[0], rtol=0, atol=1e-6)
    assert (eight[-1] - whole[-1]).norm() < 0.05 * (whole[-1] - whole[0]).norm()


def test_a_number_whose_gradients_are_far_below_those_of_its_block_does_not_leap():
    # With the squares themselves in bytes, as elsewhere, a step of this walk is 1700 times too far.
    eight, whole = walks(2**14, 30, decades=4)
    assert (eight[-1] - whole[-1]).norm() < 0.2 * (whole[-1] - whole[0]).norm()
    assert (eight[1:] - eight[:-1]).abs().max() < 2 * ADAM["lr"]


def test_small_parameters_keep_float32_moments():
    eight, whole = walks(100, 30)
    torch.testing.assert_close(eight, whole, rtol=0, atol=1e-6)


def test_bfloat16_weights_take_the_same_steps_through_their_masters():
    eight, whole = walks(2**13, 10, torch.bfloat16)
    assert (eight[-1] - whole[-1]).norm() < 0.05 * (whole[-1] - whole[0]).norm()


def test_a_parameter_that_is_not_contiguous_moves_as_one_that_is():
    gradient = torch.randn(64, 128, generator=torch.Generator().manual_seed(0))
    found = []
    for start in (torch.zeros(128, 64).T, torch.zeros(64, 128)):
        parameter = torch.nn.Parameter(start)
        found.append(walked(AdamW8bit([parameter], **ADAM), parameter, [gradient] * 3)[-1])
    assert torch.equal(*found)


@pytest.mark.parametrize("fields", [{}, {"weights": "bfloat16"}])
def test_the_moments_take_what_is_said(larger, fields):
    config = configured(larger, **EIGHT, **fields)
    policy = policies.load(config)
    found = measured(policy, config, reference=False, cache=0, largest=None)
    optimizer = make_optimizer(policy, config)
    for parameter in policy.trainable().values():
        parameter.grad = torch.ones_like(parameter)
    master_weights.step(optimizer)
    state = [t for s in optimizer.state.values() for key, t in s.items() if key != "step"]
    assert found.optimizer == sum(t.numel() * t.element_size() for t in state)
    assert any(t.dtype == torch.uint8 for t in state)
    assert state_bytes(2**20) / 2**20 < 2.04


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("fields", [{}, {"weights": "bfloat16"}, {"lora_r": 32}])
def test_a_run_that_goes_on_has_the_bits_of_one_that_was_not_stopped(larger, tmp_path, fields):
    settings = {**EIGHT, **fields, "eval_size": 0, "max_steps": 6, "rollouts": "scored.parquet"}
    train(load(make(tmp_path / "whole", larger, **settings)))
    path = make(tmp_path / "again", larger, **settings)
    train(load(path, ["max_steps=4"]))
    train(load(path), resume=True)
    folders = [tmp_path / name / "run" for name in ("whole", "again")]
    assert weights(folders[1] / "final") == weights(folders[0] / "final")
    assert records(folders[1]) == records(folders[0])


def test_a_paged_optimizer_is_refused_by_name_where_there_is_no_gpu(letters):
    config = configured(letters, optimizer="paged_adamw_8bit")
    policy = policies.load(config)
    with pytest.raises(policies.PolicyError, match=r"'paged_adamw_8bit': .* device cpu; use"):
        make_optimizer(policy, config)
