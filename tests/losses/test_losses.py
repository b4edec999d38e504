import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gspo_rs.losses import (
    cispo_loss,
    dppo_loss,
    gmpo_loss,
    grpo_loss,
    gspo_loss,
    gspo_token_loss,
    kl_penalty,
    luspo_loss,
    reinforce_loss,
    sapo_loss,
    sequence_weights,
    vespo_loss,
)

WIDE = "ignore:clip_low=.* hardly ever clip:UserWarning"
LOSSES = {
    loss_of.__name__: loss_of
    for loss_of in (
        gspo_loss,
        gspo_token_loss,
        grpo_loss,
        sapo_loss,
        cispo_loss,
        gmpo_loss,
        luspo_loss,
        vespo_loss,
        dppo_loss,
        reinforce_loss,
    )
}


def drawn(seed, lengths, width=None, dtype=torch.float64, spread=0.3):
    """Random log-probabilities of sequences with holes in their mask, and advantages."""
    rng = np.random.default_rng(seed)
    width = width or max(lengths) + 2
    mask = np.zeros((len(lengths), width), dtype=bool)
    for row, length in enumerate(lengths):
        mask[row, rng.choice(width, size=length, replace=False)] = True
    old = -rng.exponential(1.5, mask.shape)
    new = old + spread * rng.standard_normal(mask.shape)
    tensors = [torch.tensor(x, dtype=dtype) for x in (new, old, rng.standard_normal(len(lengths)))]
    return *tensors, torch.from_numpy(mask)


def closed_form(new, old, advantages, mask, weights, clip, level):
    """The gradient written out in algorithms.md section 3, in NumPy."""
    new, old, advantages, mask, weights = (x.numpy() for x in (new, old, advantages, mask, weights))
    log_ratio = np.where(mask, new - old, 0.0)
    if level == "sequence":
        log_ratio = (log_ratio.sum(1) / np.maximum(mask.sum(1), 1))[:, None]
    ratio, advantages = np.exp(log_ratio), advantages[:, None]
    active = ((advantages >= 0) & (ratio <= 1 + clip[1])) | (
        (advantages < 0) & (ratio >= 1 - clip[0])
    )
    return -weights[:, None] * mask * active * ratio * advantages


@pytest.mark.filterwarnings(WIDE)
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("loss_of", "level"),
    [(gspo_loss, "sequence"), (gspo_token_loss, "sequence"), (grpo_loss, "token")],
)
def test_the_gradient_is_the_closed_form(loss_of, level, seed):
    new, old, advantages, mask = drawn(seed, [4, 1, 0, 6, 3, 9])
    weights = sequence_weights(mask.sum(1))
    new.requires_grad_()
    loss, _ = loss_of(new, old, advantages, mask, weights, clip_low=0.05, clip_high=0.08)
    loss.backward()
    with torch.no_grad():
        expected = closed_form(new, old, advantages, mask, weights, (0.05, 0.08), level)
    np.testing.assert_allclose(new.grad.numpy(), expected, rtol=1e-12, atol=1e-15)


def closed_forms(new, old, advantages):
    """The slope of each loss's terms in l, algorithms.md sections 3.4 to 3.11, by hand."""
    d, a = (new - old).numpy(), advantages.numpy()[:, None]
    ratio, live = np.exp(d), a > 0
    gate = 1 / (1 + np.exp(-np.where(live, 1.0, 1.05) * (ratio - 1)))
    moved = np.exp(new.numpy()) - np.exp(old.numpy())
    return {
        "sapo_loss": -4 * gate * (1 - gate) * ratio * a,
        "cispo_loss": -np.clip(ratio, 0.8, 1.2) * a,
        "dppo_loss": -a * np.where(live, moved <= 0.05, moved >= -0.05) * np.minimum(ratio, 1.3),
        "reinforce_loss": -a * np.ones_like(d),
    }


CLOSED = {
    "sapo_loss": {},
    "cispo_loss": {"w_min": 0.8, "w_max": 1.2},
    "dppo_loss": {"delta_low": 0.05, "delta_high": 0.05, "w_max": 1.3},
    "reinforce_loss": {},
}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", CLOSED)
def test_the_gradient_of_a_token_loss_is_the_closed_form(name, seed):
    new, old, advantages, mask = drawn(seed, [4, 1, 0, 6, 3, 9])
    weights = sequence_weights(mask.sum(1))
    leaf = new.clone().requires_grad_()
    LOSSES[name](leaf, old, advantages, mask, weights, **CLOSED[name])[0].backward()
    slope = closed_forms(new, old, advantages)[name]
    expected = np.where(mask.numpy(), weights.numpy()[:, None] * slope, 0.0)
    np.testing.assert_allclose(leaf.grad.numpy(), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("seed", range(5))
def test_the_gradients_of_gmpo_and_vespo_are_the_closed_forms(seed):
    new, old, advantages, mask = drawn(seed, [4, 1, 6, 3, 9])
    weights, a = sequence_weights(mask.sum(1)), advantages.numpy()
    found = {}
    for name, options in (("gmpo_loss", {"clip": 0.2}), ("vespo_loss", {"k_neg": 2.5})):
        leaf = new.clone().requires_grad_()
        LOSSES[name](leaf, old, advantages, mask, weights, **options)[0].backward()
        found[name] = leaf.grad.numpy()
    for i, live in enumerate(mask.numpy()):
        d = (new - old)[i].numpy()[live]
        kept = np.minimum(d, 0.2) if a[i] > 0 else np.maximum(d, -0.2)
        slope = -np.exp(kept.mean()) * a[i] * (kept == d)
        np.testing.assert_allclose(
            found["gmpo_loss"][i, live], weights[i].item() * slope, rtol=1e-12
        )
        k, lam = (2.0, 3.0) if a[i] >= 0 else (2.5, 2.0)
        ratio = np.exp(d.sum())
        slope = -(ratio**k) * np.exp(lam * (1 - ratio)) * a[i]
        np.testing.assert_allclose(
            found["vespo_loss"][i, live], np.full(live.sum(), weights[i].item() * slope), rtol=1e-12
        )


@pytest.mark.parametrize("seed", range(3))
def test_luspo_is_gspo_with_each_sequence_counted_as_often_as_it_has_tokens(seed):
    new, old, advantages, mask = drawn(seed, [4, 1, 0, 6], spread=1e-2)
    weights = sequence_weights(mask.sum(1), "seq_sum")
    band = {"clip_low": 2e-3, "clip_high": 2.5e-3}
    values = []
    for call in (
        lambda x: luspo_loss(x, old, advantages, mask),
        lambda x: gspo_loss(x, old, advantages, mask, weights, **band),
    ):
        leaf = new.clone().requires_grad_()
        loss = call(leaf)[0]
        values.append((loss.detach(), torch.autograd.grad(loss, leaf)[0]))
    torch.testing.assert_close(values[0], values[1], rtol=1e-14, atol=0)


@pytest.mark.parametrize("name", ["sapo_loss", "gmpo_loss"])
def test_a_smooth_gate_has_the_gradient_of_finite_differences(name):
    new, old, advantages, mask = drawn(3, [4, 2, 5], spread=0.1)
    assert torch.autograd.gradcheck(
        lambda x: LOSSES[name](x, old, advantages, mask)[0], [new.requires_grad_()]
    )


@pytest.mark.filterwarnings(WIDE)
@pytest.mark.parametrize("estimator", [None, "k2", "k3", "k3_is"])
@pytest.mark.parametrize("level", ["sequence", "token"])
def test_the_gradient_is_that_of_finite_differences(estimator, level):
    new, old, advantages, mask = drawn(3, [4, 2, 5])
    reference = old + 0.2 * torch.sin(torch.arange(old.numel())).reshape(old.shape)
    loss_of = gspo_loss if level == "sequence" else grpo_loss

    def function(x):
        if estimator is None:
            return loss_of(x, old, advantages, mask, clip_low=0.3, clip_high=0.3)[0]
        return kl_penalty(x, reference, mask, estimator=estimator, old_logprobs=old, level=level)[0]

    assert torch.autograd.gradcheck(function, [new.requires_grad_()])


@pytest.mark.parametrize("seed", range(5))
def test_gspo_token_is_gspo_in_value_and_gradient(seed):
    new, old, advantages, mask = drawn(seed, [4, 1, 0, 6], spread=1e-3)
    values = []
    for loss_of in (gspo_loss, gspo_token_loss):
        leaf = new.clone().requires_grad_()
        loss, _ = loss_of(leaf, old, advantages, mask)
        values.append((loss.detach(), torch.autograd.grad(loss, leaf)[0]))
    torch.testing.assert_close(values[0], values[1], rtol=1e-13, atol=1e-16)


@pytest.mark.parametrize("loss_of", [gspo_loss, gspo_token_loss])
def test_on_policy_gspo_is_grpo_with_sequence_means(loss_of):
    _, old, advantages, mask = drawn(0, [4, 1, 0, 6])
    values = []
    for function in (loss_of, grpo_loss):
        leaf = old.clone().requires_grad_()
        loss, _ = function(leaf, old, advantages, mask)
        values.append((loss.detach(), torch.autograd.grad(loss, leaf)[0]))
    torch.testing.assert_close(values[0], values[1], rtol=1e-13, atol=1e-16)


def test_the_kl_penalties_have_the_gradients_of_the_specification():
    new, old, _, mask = drawn(1, [3, 5])
    reference = old - 0.1
    x, ratio = (reference - new).numpy(), np.exp((new - old).numpy())
    slopes = {
        "k2": -x,
        "k3": 1 - np.exp(x),
        "k3_is": ratio * (np.exp(x) - x - 1) + ratio * (1 - np.exp(x)),
    }
    weights = sequence_weights(mask.sum(1))
    for estimator, slope in slopes.items():
        leaf = new.clone().requires_grad_()
        kl_penalty(leaf, reference, mask, estimator=estimator, old_logprobs=old)[0].backward()
        expected = weights.numpy()[:, None] * mask.numpy() * slope
        np.testing.assert_allclose(leaf.grad.numpy(), expected, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(slopes["k3_is"], -ratio * x, rtol=1e-9)


@st.composite
def cut_steps(draw):
    """A step of sequences, and micro-batches of them in any order, each padded or flat."""
    lengths = draw(st.lists(st.integers(0, 6), min_size=1, max_size=8))
    order = draw(st.permutations(range(len(lengths))))
    ends = draw(st.sets(st.integers(1, len(lengths)), max_size=3)) | {len(lengths)}
    starts = [0, *sorted(ends)[:-1]]
    parts = [list(order[a:b]) for a, b in zip(starts, sorted(ends), strict=True)]
    layouts = draw(st.lists(st.booleans(), min_size=len(parts), max_size=len(parts)))
    return draw(st.integers(0, 2**16)), lengths, list(zip(parts, layouts, strict=True))


def objective(name, new, old, advantages, weights, **layout):
    if name == "kl":
        return kl_penalty(new, old - 0.1, weights=weights, old_logprobs=old, **layout)[0]
    return LOSSES[name](new, old, advantages, weights=weights, **layout)[0]


@settings(max_examples=40, deadline=None)
@given(cut_steps(), st.sampled_from([*LOSSES, "kl"]), st.sampled_from(["seq_mean", "token_mean"]))
def test_a_step_has_one_loss_and_gradient_however_it_is_cut(step, name, reduction):
    seed, lengths, parts = step
    new, old, advantages, mask = drawn(seed, lengths)
    weights = sequence_weights(mask.sum(1), reduction)
    whole = new.clone().requires_grad_()
    expected = objective(name, whole, old, advantages, weights, mask=mask)
    expected.backward()

    cut = new.clone().requires_grad_()
    total = torch.zeros((), dtype=torch.float64)
    for rows, flat in parts:
        live = mask[rows]
        pick = (lambda x, live=live: x[live]) if flat else (lambda x: x)
        layout = {"mask": None, "lengths": live.sum(1)} if flat else {"mask": live}
        tokens = [pick(cut[rows]), pick(old[rows])]
        loss = objective(name, *tokens, advantages[rows], weights[rows], **layout)
        loss.backward()
        total += loss.detach()
    torch.testing.assert_close(total, expected.detach(), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(cut.grad, whole.grad, rtol=1e-12, atol=1e-14)
