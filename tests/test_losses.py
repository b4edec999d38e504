import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gspo_rs.losses import (
    grpo_loss,
    gspo_loss,
    gspo_token_loss,
    kl_penalty,
    sequence_weights,
)

WIDE = "ignore:clip_low=.* hardly ever clip:UserWarning"
LOSSES = {"gspo": gspo_loss, "gspo_token": gspo_token_loss, "token_clip": grpo_loss}
REDUCTIONS = {  # what the golden file calls them, and what they are called here
    "seq_mean_token_mean": "seq_mean",
    "seq_mean_token_mean_nonempty": "seq_mean",
    "seq_mean_token_sum": "seq_sum",
    "token_mean": "token_mean",
    "constant": "constant",
    "prompt_mean": "prompt_mean",
}


@pytest.fixture(scope="module")
def golden(shared):
    entries = json.loads((shared / "golden" / "losses.json").read_text())["entries"]
    with np.load(shared / "golden" / "losses.npz") as arrays:
        return entries, dict(arrays)


class Golden:
    """One case of the golden file as tensors."""

    def __init__(self, arrays, name, dtype):
        self.of = {
            key.split("/")[1]: torch.from_numpy(value).to(dtype)
            for key, value in arrays.items()
            if key.startswith(f"{name}/") and "/grad/" not in key
        }
        self.mask = self.of["mask"] != 0
        self.lengths = self.mask.sum(dim=1)

    def advantages(self, params):
        """The advantages with the corrections that act as factors of them."""
        given = self.of["advantages"]
        if "is_weight" in params:
            return given[:, None] * self.of[params["is_weight"]]
        if "opsm" in params:
            drift = (self.of["old_logps"] - self.of["logps"]) * self.mask
            far = drift.sum(dim=1) / self.lengths > params["opsm"]
            return torch.where((given < 0) & far, 0.0, given)
        return given

    def options(self, kind, params):
        options = {"clip_low": params["eps_low"], "clip_high": params["eps_high"]}
        if kind == "token_clip":
            options |= {"dual_clip": params.get("dual"), "delta": params.get("delta")}
        return options

    def loss(self, kind, params, logps, flat):
        weights = sequence_weights(
            self.lengths,
            REDUCTIONS[params["reduction"]],
            groups=self.of["group_index"].long(),
            budget=params.get("max_len"),
        )

        def cut(tokens):
            return tokens[self.mask] if flat and tokens.dim() == 2 else tokens

        layout = {"mask": None, "lengths": self.lengths} if flat else {"mask": self.mask}
        new, old = cut(logps), cut(self.of["old_logps"])
        advantages = cut(self.advantages(params))
        options = self.options(kind, params)
        loss, _ = LOSSES[kind](new, old, advantages, weights=weights, **layout, **options)
        if beta := params.get("beta"):
            penalty, _ = kl_penalty(
                new,
                cut(self.of["ref_logps"]),
                weights=weights,
                old_logprobs=old,
                estimator="k3_is" if params["kl_is"] else "k3",
                level="sequence" if kind == "gspo" else "token",
                **layout,
            )
            loss = loss + beta * penalty
        return loss


@pytest.mark.filterwarnings(WIDE)
@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("case", ["full_b4t6", "holes_b8t17", "extreme_b4t8"])
def test_losses_and_gradients_are_those_of_other_projects(golden, case, dtype, flat):
    entries, arrays = golden
    data = Golden(arrays, case, dtype)
    compared = 0
    for entry in entries:
        kind = entry["reference_kind"].replace("_prompt_mean", "token_clip")
        if entry["case"] != case or kind not in LOSSES:
            continue
        logps = data.of["logps"].clone().requires_grad_()
        loss = data.loss(kind, entry["params"], logps, flat)
        loss.backward()
        rough = entry["source"].startswith(("peer:verl", "peer:openrlhf"))
        tolerance = 1e-5 if dtype == torch.float32 else 1e-8 if rough else 1e-12
        expected = torch.from_numpy(arrays[entry["grad_key"]])
        assert float(loss.detach()) == pytest.approx(entry["loss"], rel=tolerance, abs=tolerance)
        scale = float(expected.abs().max())
        torch.testing.assert_close(
            logps.grad.double(),
            expected,
            rtol=tolerance,
            atol=tolerance * scale,
            msg=entry["entry"],
        )
        compared += 1
    assert compared == 33


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
