import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gspo_rs.losses import policy_metrics
from gspo_rs.losses.band import Band
from gspo_rs.losses.core_metrics import core_metrics
from gspo_rs.losses.layout import Layout, bounded_exp
from gspo_rs.losses.metrics import STRANDS, largest, torch_metrics


def oracle(rows, advantages, low, high, level):
    """The metrics of algorithms.md section 7 from ragged NumPy rows of log-ratios."""
    kept = [(row, a) for row, a in zip(rows, advantages, strict=True) if len(row)]
    tokens = np.concatenate([row for row, _ in kept])
    means = np.array([row.mean() for row, _ in kept])
    ratios = {"ratio": np.exp(tokens), "seq_ratio": np.exp(means)}
    bound = [np.full(len(row), row.mean()) if level == "sequence" else row for row, _ in kept]
    hits = {
        "low": [(np.exp(x) < 1 - low) & (a < 0) for x, (_, a) in zip(bound, kept, strict=True)],
        "high": [(np.exp(x) > 1 + high) & (a > 0) for x, (_, a) in zip(bound, kept, strict=True)],
    }
    found = {f"clip/token_{side}": np.concatenate(hit).mean() for side, hit in hits.items()}
    if level == "sequence":
        found |= {
            f"clip/seq_{side}": np.mean([h.mean() for h in hit]) for side, hit in hits.items()
        }
        found["clip/seq"] = found["clip/seq_low"] + found["clip/seq_high"]
    found["clip/token"] = found["clip/token_low"] + found["clip/token_high"]
    for name, ratio in ratios.items():
        found |= {f"{name}/mean": ratio.mean(), f"{name}/min": ratio.min()}
        found |= {f"{name}/max": ratio.max(), f"{name}/p99": np.quantile(ratio, 0.99)}
    found["seq_ratio/unmoved_frac"] = np.mean(np.abs(means) < 1e-6)
    found["log_w_seq"] = np.mean([row.sum() for row, _ in kept])
    found["kl/old_k1"] = -tokens.mean()
    found["kl/old_k2"] = (tokens**2 / 2).mean()
    found["kl/old_k3"] = (np.expm1(tokens) - tokens).mean()
    return found


def padded(rows):
    width = max(map(len, rows)) + 1
    mask = torch.arange(width) < torch.tensor([[len(row)] for row in rows])
    new = torch.full(mask.shape, torch.nan, dtype=torch.float64)
    new[mask] = torch.from_numpy(np.concatenate(rows))
    return new, torch.zeros_like(new), mask


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 300), min_size=1, max_size=150).filter(any),
    st.integers(0, 2**16),
    st.sampled_from(["sequence", "token"]),
    st.booleans(),
)
def test_metrics_are_those_numpy_finds_in_the_ragged_rows(lengths, seed, level, flat):
    rng = np.random.default_rng(seed)
    rows = [0.1 * rng.standard_normal(n) for n in lengths]
    rows[0] = np.zeros_like(rows[0])
    advantages = rng.standard_normal(len(rows))
    band = {"clip_low": 0.01, "clip_high": 0.02}
    if flat:
        new = torch.from_numpy(np.concatenate(rows))
        layout = {"lengths": torch.tensor(lengths)}
        old = torch.zeros_like(new)
    else:
        new, old, mask = padded(rows)
        layout = {"mask": mask}
    found = policy_metrics(new, old, torch.from_numpy(advantages), **layout, level=level, **band)
    expected = oracle(rows, advantages, 0.01, 0.02, level)
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert float(value) == pytest.approx(expected[name], rel=1e-10, abs=1e-13), name


def close(found, expected, scale):
    """Whether float32 metrics are those of float64, to the digits that their sums can have."""
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert (value.dtype, value.shape) == (torch.float32, ()), name
        wanted = pytest.approx(float(expected[name]), rel=5e-6, abs=1e-6 * scale, nan_ok=True)
        assert float(value) == wanted, name


def by_both(log_ratio, mask, lengths, advantages, level="token"):
    """The metrics by the core in float32, and by PyTorch in float64, of one band."""
    layout = Layout.of(log_ratio, mask, lengths)
    log_ratio = layout.select(log_ratio)
    moved = layout.mean(log_ratio) if level == "sequence" else log_ratio
    by_sequence = advantages.shape == layout.lengths.shape and level == "sequence"
    if not by_sequence:
        advantages = layout.token_values(advantages, "advantages", log_ratio)
    band = Band(0.01, 0.02, bounded_exp(moved), advantages, level, by_sequence)
    found = core_metrics(log_ratio, layout, band)
    exact = log_ratio.double()
    return found, torch_metrics(exact, Layout.of(exact, mask, lengths), band)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 300), min_size=1, max_size=40).filter(any),
    st.integers(0, 2**16),
    st.sampled_from(["sequence", "token"]),
    st.sampled_from(["flat", "padded", "holes"]),
    st.booleans(),
    st.sampled_from([1e-3, 0.1, 2.0, 15.0]),
)
def test_the_core_finds_the_metrics_of_torch_in_float64(
    lengths, seed, level, kind, per_token, scale
):
    draw = torch.Generator().manual_seed(seed)
    counts = torch.tensor(lengths)
    if kind == "flat":
        layout, shape = (None, counts), (int(counts.sum()),)
    else:
        shape = len(lengths), max(lengths) + 2
        mask = torch.arange(shape[1]) < counts[:, None]
        if kind == "holes":
            mask &= torch.rand(shape, generator=draw) < 0.7
        layout = mask, None
    log_ratio = scale * torch.randn(shape, generator=draw)
    drawn = torch.randn(shape if per_token else len(lengths), generator=draw)
    found, expected = by_both(log_ratio, *layout, drawn, level)
    close(found, expected, scale)
    shares = {name: expected[name].float() for name in found if name.startswith("clip/")}
    torch.testing.assert_close(
        {name: found[name] for name in shares}, shares, rtol=0, atol=1e-6, equal_nan=True
    )


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf, 1e30, 0.0])
@pytest.mark.parametrize("place", [0, 37, 99])
def test_the_core_and_torch_agree_on_a_token_beyond_all_bounds(value, place):
    log_ratio = 0.1 * torch.randn(100, generator=torch.Generator().manual_seed(0))
    log_ratio[place] = value
    lengths = torch.tensor([60, 0, 40])
    found, expected = by_both(log_ratio, None, lengths, torch.tensor([1.0, 2.0, -1.0]))
    for name, exact in expected.items():
        assert float(found[name]) == pytest.approx(float(exact.float()), rel=5e-6, nan_ok=True), (
            name
        )


@pytest.mark.parametrize("n", [2048, 40_001, 70_000])
@pytest.mark.parametrize("kind", ["drawn", "rising", "tied", "still", "one column"])
def test_the_extremes_of_many_ratios_are_those_of_numpy(n, kind):
    values = 0.1 * torch.randn(n, generator=torch.Generator().manual_seed(0))
    if kind == "rising":
        values = values.sort().values
    elif kind == "tied":
        values = (20 * values).round() / 20
    elif kind == "still":
        values.zero_()
    elif kind == "one column":  # where a sample taken at equal steps finds all of the largest
        values[:: n // 1024] += 1
    found = policy_metrics(
        values,
        torch.zeros(n),
        torch.ones(1),
        lengths=torch.tensor([n]),
        clip_low=0.2,
        clip_high=0.2,
    )
    ratio = np.exp(values.double().numpy())
    expected = [ratio.min(), ratio.max(), np.quantile(ratio, 0.99)]
    measured = [float(found[f"ratio/{what}"]) for what in ("min", "max", "p99")]
    assert measured == pytest.approx(expected, rel=2e-7)


@pytest.mark.parametrize("n", [4096, 40_001, 65_543])
@pytest.mark.parametrize("kind", ["drawn", "rising", "tied", "one strand"])
def test_the_largest_of_many_are_those_of_a_full_sort(n, kind):
    values = torch.randn(n, generator=torch.Generator().manual_seed(0))
    if kind == "rising":
        values = values.sort().values
    elif kind == "tied":
        values = (2 * values).round()
    elif kind == "one strand":  # all of the largest in the strands of the first columns
        values[:: n // STRANDS] += 100
    k = n // 100 + 2
    assert torch.equal(largest(values, k), values.sort(descending=True).values[:k])


def test_a_band_on_sequences_counts_the_tokens_of_clipped_ones():
    new = torch.tensor([0.1, 0.1, 0.1, 0.0])
    found = policy_metrics(
        new,
        torch.zeros(4),
        torch.tensor([1.0, 1.0]),
        lengths=torch.tensor([3, 1]),
        clip_low=0.01,
        clip_high=0.01,
    )
    assert float(found["clip/seq_high"]) == 0.5
    assert float(found["clip/token_high"]) == 0.75


@pytest.mark.parametrize("n", [0, 3])
def test_metrics_of_nothing_are_nan(n):
    tokens = torch.zeros(2, n)
    mask = torch.zeros(2, n, dtype=torch.bool)
    found = policy_metrics(tokens, tokens, torch.ones(2), mask, clip_low=0.2, clip_high=0.2)
    assert all(math.isnan(value) for value in found.values())
