"""Advantages in float32: those of float64 rounded, and of float64 where they have to be."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

import gspo_rs as gs

FLOATS = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("size", [1, 2, 3, 8, 64])
@pytest.mark.parametrize("name", ["mean", "rloo", "maxrl", "opo"])
def test_a_tensor_in_groups_of_one_size_gives_what_float64_gives_rounded(name, size, dtype):
    rng, n = np.random.default_rng(size), 19 * size
    lengths = rng.integers(1, 5000, n)
    options = {"lengths": lengths} if name == "opo" else {}
    few, many = rng.integers(0, 11, n) / 10, rng.random(n)
    lacking = np.where(many < 0.2, np.nan, few)
    for rewards in (few, many, many * 10.0 ** rng.integers(-4, 4, n), lacking):
        given = torch.tensor(rewards, dtype=dtype)
        exact = gs.advantage(given.double().numpy(), group_size=size, estimator=name, **options)
        expected = torch.tensor(exact).to(dtype)
        for tensor in (given, given.clone().requires_grad_(), given.repeat_interleave(2)[::2]):
            found = gs.advantage(tensor, group_size=size, estimator=name, **options)
            assert found.dtype == dtype
            assert not found.requires_grad
            assert torch.equal(found.nan_to_num(), expected.nan_to_num())
        if options:
            options = {"lengths": torch.from_numpy(lengths)}


def test_what_float32_cannot_tell_is_asked_of_float64():
    """A sum that float64 rounds too, a reward that is infinite, a group without tokens."""
    apart = torch.tensor([1.0, 1e-30, 3.0, 0.0])
    found = gs.advantage(apart, group_size=4, estimator="mean")
    exact = gs.advantage(apart.double().numpy(), group_size=4, estimator="mean")
    assert torch.equal(found, torch.tensor(exact).float())
    with pytest.raises(ValueError, match="reward at row 1 is inf"):
        gs.advantage(torch.tensor([0.0, torch.inf]), group_size=2, estimator="mean")
    with pytest.raises(ValueError, match=r"leaves the range of torch\.float32"):
        gs.advantage(torch.tensor([3e38, -3e38]), group_size=2, estimator="rloo")
    ones = torch.tensor([1.0, 0.0])
    with pytest.raises(ValueError, match="row 0"):
        gs.advantage(ones, group_size=2, estimator="opo", lengths=[0, 0])
    with pytest.raises(ValueError, match="1 lengths"):
        gs.advantage(ones, group_size=2, estimator="opo", lengths=[3])
    with pytest.raises(ValueError, match="-1"):
        gs.advantage(torch.tensor([1.0, -1.0]), group_size=2, estimator="maxrl")


def test_float32_of_numpy_gives_every_digit_of_float64():
    rewards = np.array([0.1, 0.7, 0.4], dtype=np.float32)
    groups = gs.stats(rewards, group_size=3).groups
    wide = rewards.astype(np.float64)
    for found in (
        gs.advantage(rewards, group_size=3, estimator="mean"),
        gs.advantage(rewards, groups, "mean"),
        gs.advantage(rewards[None], estimator="mean")[0],
    ):
        assert found.dtype == np.float64
        assert_array_equal(found, gs.advantage(wide, groups, "mean"))
