"""Correction for the sampler's mismatch, against the formulas written out in NumPy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gspo_rs.losses import grpo_loss, mismatch_metrics, off_policy_mask, sampler_correction

MODES = ["token_truncate", "token_mask", "sequence_truncate", "sequence_mask", "seq_mask"]


def case(lengths, seed, flat, spread=0.3):
    """Old and sampler log-probabilities of ragged rows, with NaN outside the mask."""
    rng = np.random.default_rng(seed)
    rows = [spread * rng.standard_normal(n) for n in lengths]
    u = [-rng.exponential(1.0, n) for n in lengths]
    if flat:
        sampler = torch.from_numpy(np.concatenate(u))
        old = sampler + torch.from_numpy(np.concatenate(rows))
        return rows, old, sampler, {"mask": None, "lengths": torch.tensor(lengths)}
    mask = torch.arange(max(lengths) + 1) < torch.tensor(lengths)[:, None]
    old, sampler = torch.full((2, *mask.shape), math.nan, dtype=torch.float64)
    sampler[mask] = torch.from_numpy(np.concatenate(u))
    old[mask] = sampler[mask] + torch.from_numpy(np.concatenate(rows))
    return rows, old, sampler, {"mask": mask}


def expected_weights(rows, mode, low, high):
    def bound(ratio):
        inside = (ratio >= low) & (ratio <= high)
        if mode.endswith("truncate"):
            return np.clip(ratio, low, high)
        return inside * (np.ones_like(ratio) if mode == "seq_mask" else ratio)

    if mode.startswith("token"):
        return bound(np.exp(np.concatenate(rows)))
    means = mode == "seq_mask"
    sums = np.array([row.mean() if means and len(row) else row.sum() for row in rows])
    return bound(np.exp(sums)) * np.array([len(row) > 0 for row in rows])


shapes = st.lists(st.integers(0, 6), min_size=1, max_size=6).filter(any)


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@given(shapes, st.integers(0, 2**16), st.booleans())
def test_the_weights_are_the_formulas_of_their_modes(mode, lengths, seed, flat):
    rows, old, sampler, layout = case(lengths, seed, flat)
    low, high = (0.9, 1.2) if mode != "sequence_truncate" else (0.0, 1.1)
    weights, metrics = sampler_correction(old, sampler, **layout, mode=mode, low=low, high=high)
    expected = expected_weights(rows, mode, low, high)
    if mode.startswith("token") and not flat:
        assert weights[~layout["mask"]].abs().sum() == 0
        weights = weights[layout["mask"]]
    np.testing.assert_allclose(weights, expected, rtol=1e-12)
    by_token = mode.startswith("token")
    n = sum(lengths) if by_token else sum(length > 0 for length in lengths)
    assert float(metrics["mismatch/kept_frac"]) == pytest.approx((expected > 0).sum() / n)
    if expected.any():
        share = expected.sum() ** 2 / (n * (expected**2).sum())
        assert float(metrics["ess/token" if by_token else "ess/seq"]) == pytest.approx(share)


@given(shapes, st.integers(0, 2**16), st.booleans())
def test_the_mismatch_metrics_are_what_numpy_finds_in_the_rows(lengths, seed, flat):
    rows, old, sampler, layout = case(lengths, seed, flat)
    x = np.concatenate(rows)
    kept = [row for row in rows if len(row)]
    found = mismatch_metrics(old, sampler, **layout)
    expected = {
        "mismatch/k1": -x.mean(),
        "mismatch/k3": (np.exp(x) - x - 1).mean(),
        "mismatch/abs": np.abs(x).mean(),
        "mismatch/max": np.abs(x).max(),
        "mismatch/ppl_ratio": np.mean([np.exp(-row.mean()) for row in kept]),
        "mismatch/chi2_token": np.exp(2 * x).mean() - 1,
        "mismatch/chi2_seq": np.mean([np.exp(2 * row.sum()) for row in kept]) - 1,
    }
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert float(value) == pytest.approx(expected[name], rel=1e-9, abs=1e-12), name


def test_an_unknown_sampler_log_probability_has_ratio_one():
    old = torch.tensor([-1.0, -2.0, -3.0])
    sampler = torch.tensor([math.nan, -2.5, math.nan])
    lengths = torch.tensor([2, 1])
    weights, _ = sampler_correction(old, sampler, None, mode="token_mask", lengths=lengths)
    assert weights.tolist() == pytest.approx([1.0, math.exp(0.5), 1.0])
    weights, _ = sampler_correction(old, sampler, None, mode="sequence_mask", lengths=lengths)
    assert weights.tolist() == pytest.approx([math.exp(0.5), 1.0])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("drift", [100.0, -100.0])
def test_a_sampler_that_is_far_off_gives_finite_weights_and_metrics(mode, drift):
    old = -torch.ones(6)
    weights, metrics = sampler_correction(
        old, old + drift, None, mode=mode, lengths=torch.tensor([3, 0, 3])
    )
    assert weights.isfinite().all()
    assert all(value.isfinite() for value in metrics.values())


def test_bad_sequences_that_were_left_behind_are_dropped_and_others_not():
    new = torch.tensor([-3.0, -3.0, -1.2, -3.0])
    sampler = torch.tensor([-1.0, -1.0, -1.0, math.nan])
    advantages, lengths = torch.tensor([-1.0, 1.0, -1.0, -1.0]), torch.ones(4).long()
    weights, metrics = off_policy_mask(new, sampler, advantages, None, delta=0.5, lengths=lengths)
    assert weights.tolist() == [0, 1, 1, 1]
    assert float(metrics["mismatch/opsm_frac"]) == 0.25


def test_a_token_correction_multiplies_the_loss_of_its_token():
    old, sampler = torch.tensor([[-1.0, -2.0]]), torch.tensor([[-1.5, -2.0]])
    mask = torch.tensor([[True, True]])
    weights, _ = sampler_correction(old, sampler, mask, mode="token_truncate")
    loss, _ = grpo_loss(old, old, torch.tensor([1.0])[:, None] * weights, mask)
    assert float(loss) == pytest.approx(-(math.exp(0.5) + 1) / 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"mode": "token"}, "mode is 'token'; one of token_truncate"), ({"low": 2.0}, "low=2.0")],
)
def test_what_does_not_fit_is_named(options, message):
    nothing, lengths = torch.zeros(1), torch.tensor([1])
    with pytest.raises(ValueError, match=message):
        sampler_correction(nothing, nothing, None, lengths=lengths, **options)


def test_a_mask_without_a_bound_is_refused():
    nothing, lengths = torch.zeros(1), torch.tensor([1])
    with pytest.raises(ValueError, match="delta=0"):
        off_policy_mask(nothing, nothing, torch.ones(1), None, delta=0, lengths=lengths)
