"""Log-ratios out of range, nothing to learn from, low precision, bounds, and bad input."""

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from gspo_rs import losses
from gspo_rs.losses import (
    cispo_loss,
    dppo_loss,
    gmpo_loss,
    grpo_loss,
    gspo_loss,
    gspo_token_loss,
    kl_penalty,
    luspo_loss,
    policy_metrics,
    qrpo_loss,
    reinforce_loss,
    sapo_loss,
    vespo_loss,
)

BAND = {"clip_low": 3e-4, "clip_high": 4e-4}


def kl_loss(logprobs, old_logprobs, _advantages, mask, weights=None, *, lengths=None):
    reference = old_logprobs - 0.05
    return kl_penalty(
        logprobs, reference, mask, weights, old_logprobs=old_logprobs, lengths=lengths
    )


BY_TOKEN = [
    gspo_token_loss,
    grpo_loss,
    sapo_loss,
    cispo_loss,
    vespo_loss,
    dppo_loss,
    reinforce_loss,
]
OBJECTIVES = [gspo_loss, luspo_loss, gmpo_loss, kl_loss, qrpo_loss, *BY_TOKEN]


def batch(shape=(4, 6), dtype=torch.float64, drift=0.1):
    rng = np.random.default_rng(0)
    old = torch.tensor(-rng.exponential(1.0, shape))
    new = old + drift * torch.tensor(rng.standard_normal(shape))
    advantages = torch.tensor([1.0, -1.0, 0.5, -2.0], dtype=torch.float64)
    mask = torch.arange(shape[1]) < torch.tensor([[6], [3], [1], [5]])
    return new.to(dtype), old.to(dtype), advantages, mask


def valued(objective, new, *rest, **options):
    leaf = new.detach().clone().requires_grad_()
    loss, _ = objective(leaf, *rest, **options)
    loss.backward()
    return loss.detach(), leaf.grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("drift", [100.0, -100.0])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_log_ratios_of_100_nats_give_finite_losses_and_gradients(objective, drift, dtype):
    _, old, advantages, mask = batch(dtype=dtype)
    loss, gradient = valued(objective, old + drift, old, advantages, mask)
    assert loss.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_ratio_beyond_float16_has_a_finite_gradient_in_it(objective, seed):
    _, old, advantages, mask = batch(dtype=torch.float16)
    moved = torch.randn(old.shape, generator=torch.Generator().manual_seed(seed)) * 30
    loss, gradient = valued(objective, (old + moved).half(), old, 10 * advantages, mask)
    assert loss.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_token_that_became_impossible_gives_a_finite_loss_and_gradient(objective):
    new, old, advantages, mask = batch()
    new[0, 0] = -torch.inf
    loss, gradient = valued(objective, new, old, advantages, mask)
    assert loss.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("junk", [torch.nan, torch.inf, -torch.inf, 1e30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_what_stands_outside_the_mask_does_not_matter(objective, dtype, junk):
    new, old, advantages, mask = batch(dtype=dtype)
    expected = valued(objective, new, old, advantages, mask)
    dirty = [torch.where(mask, x, junk) for x in (new, old)]
    found = valued(objective, *dirty, advantages, mask)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("loss_of", BY_TOKEN)
def test_advantages_outside_the_mask_do_not_matter(loss_of):
    new, old, advantages, mask = batch()
    per_token = torch.where(mask, advantages[:, None], torch.nan)
    expected = valued(loss_of, new, old, advantages, mask)
    torch.testing.assert_close(valued(loss_of, new, old, per_token, mask), expected)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_an_empty_sequence_changes_nothing_even_without_an_advantage(objective):
    new, old, advantages, mask = batch()
    expected, slope = valued(objective, new, old, advantages, mask)
    more = [torch.cat([x, x[:1]]) for x in (new, old)]
    emptied = torch.cat([mask, torch.zeros_like(mask[:1])])
    unscored = torch.cat([advantages, torch.tensor([torch.nan])])
    loss, gradient = valued(objective, *more, unscored, emptied)
    torch.testing.assert_close(loss, expected, rtol=1e-14, atol=0)
    torch.testing.assert_close(gradient[:-1], slope, rtol=1e-14, atol=0)
    assert gradient[-1].abs().sum() == 0


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_batch_without_tokens_has_loss_and_gradient_zero(objective, flat):
    new, old, advantages, mask = batch()
    if flat:
        nothing, lengths = torch.empty(0), torch.zeros(4, dtype=torch.int64)
        loss, gradient = valued(objective, nothing, nothing, advantages, None, lengths=lengths)
    else:
        loss, gradient = valued(objective, new, old, advantages, torch.zeros_like(mask))
    assert loss == 0
    assert gradient.abs().sum() == 0


@pytest.mark.parametrize(
    ("log_ratio", "advantage", "passes", "metric"),
    [
        (3.9e-4, 1.0, True, None),
        (4.1e-4, 1.0, False, "clip/seq_high"),
        (4.1e-4, -1.0, True, None),
        (-2.9e-4, -1.0, True, None),
        (-3.1e-4, -1.0, False, "clip/seq_low"),
        (-3.1e-4, 1.0, True, None),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_paper_band_clips_where_it_says(dtype, log_ratio, advantage, passes, metric):
    # Small log-probabilities, whose float32 differences still hold the drift.
    old = torch.full((1, 4), -0.01, dtype=dtype)
    new = (old + log_ratio).requires_grad_()
    mask = torch.ones_like(old, dtype=torch.bool)
    loss, metrics = gspo_loss(new, old, torch.tensor([advantage]), mask)
    loss.backward()
    assert bool((new.grad != 0).all()) == passes
    clips = {name: float(value) for name, value in metrics.items() if name.startswith("clip/seq_")}
    assert clips == {name: float(name == metric) for name in ("clip/seq_low", "clip/seq_high")}


@pytest.mark.parametrize(("advantage", "value"), [(-1.0, 3.0), (1.0, -1.2)])
def test_the_cap_ends_the_push_only_against_a_negative_advantage(advantage, value):
    old = torch.zeros(1, dtype=torch.float64)
    rest = (old, torch.tensor([advantage]), None)
    results = [
        valued(grpo_loss, old + 2.0, *rest, lengths=torch.tensor([1]), **{name: 3.0})
        for name in ("dual_clip", "delta")
    ]
    expected = (torch.tensor(value).double(), torch.zeros(1).double())
    torch.testing.assert_close(results, [expected, expected])


def test_losses_never_ask_a_tensor_for_its_value():
    with FakeTensorMode():
        for objective in OBJECTIVES:
            tokens = torch.empty(4, 6, requires_grad=True)
            mask = torch.empty(4, 6, dtype=torch.bool)
            objective(tokens, torch.empty(4, 6), torch.empty(4), mask)[0].backward()


@pytest.mark.parametrize("objective", [gspo_loss, luspo_loss, gmpo_loss, *BY_TOKEN])
def test_without_metrics_a_loss_has_the_same_value_and_gradient(objective):
    inputs = batch()
    bare = valued(lambda *x: objective(*x, metrics=False), *inputs)
    torch.testing.assert_close(bare, valued(objective, *inputs), rtol=0, atol=0)
    assert objective(*inputs, metrics=False)[1] == {}


@pytest.mark.slow
@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_loss_compiles_into_one_graph(objective, flat):
    new, old, advantages, mask = batch()
    if flat:
        inputs = (new[mask], old[mask], advantages, None)
        options = {"lengths": mask.sum(1)}
    else:
        inputs, options = (new, old, advantages, mask), {}
    compiled = torch.compile(objective, backend="eager", fullgraph=True)
    found = valued(compiled, *inputs, **options)
    torch.testing.assert_close(found, valued(objective, *inputs, **options))


@pytest.mark.slow
@pytest.mark.parametrize("objective", [gspo_loss, grpo_loss])
def test_a_compiled_loss_has_the_metrics_that_the_core_finds_for_the_plain_one(objective):
    inputs = batch(dtype=torch.float32)
    compiled = torch.compile(objective, backend="eager", fullgraph=True)
    found, expected = (called(*inputs)[1] for called in (compiled, objective))
    assert found.keys() == expected.keys()
    torch.testing.assert_close(found, {name: expected[name] for name in found})


def test_every_loss_is_compiled_in_these_tests_or_those_of_groups_or_of_the_head():
    compiled = {objective.__name__ for objective in OBJECTIVES} | {"kl_penalty"}
    of_groups = {"plackett_luce_loss", "pairwise_loss", "top_fraction_loss", "dpo_loss", "ipo_loss"}
    of_the_head = {"linear_gspo_loss", "linear_sequence_loss"}  # test_compiled_head.py
    public = {name for name in losses.__all__ if name.endswith("_loss") or name == "kl_penalty"}
    assert public - compiled == of_groups | of_the_head


@pytest.mark.slow
def test_a_compiled_loss_warns_and_refuses_as_the_plain_one():
    torch._dynamo.reset()
    compiled = torch.compile(gspo_loss, backend="eager", fullgraph=True)
    for clip_high in (0.2, 0.3, 0.4):  # from the second on the graph takes any number
        with pytest.warns(UserWarning, match="hardly ever clip a sequence ratio"):
            expected = gspo_loss(*batch(), clip_high=clip_high)[0]
        if clip_high < 0.4:
            with pytest.warns(UserWarning, match=r"clips above 0\.02 hardly ever clip"):
                found = compiled(*batch(), clip_high=clip_high)[0]
        else:
            found = compiled(*batch(), clip_high=clip_high)[0]
        torch.testing.assert_close(found, expected)
    with pytest.raises(ValueError, match="should be at least 0"):
        torch.compile(gspo_loss, backend="eager")(*batch(), clip_low=-1.0)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_only_the_current_log_probabilities_get_a_gradient_and_metrics_none(objective):
    new, old, advantages, mask = batch()
    others = [old.requires_grad_(), advantages.requires_grad_()]
    loss, metrics = objective(new.requires_grad_(), *others, mask)
    assert torch.autograd.grad(loss, others, allow_unused=True) == (None, None)
    assert not any(value.requires_grad for value in metrics.values())
    assert {value.shape for value in metrics.values()} == {torch.Size([])}


@pytest.mark.parametrize("loss_of", [gspo_loss, gspo_token_loss])
def test_a_token_clip_on_sequence_ratios_is_warned_of(loss_of):
    with pytest.warns(UserWarning, match=r"clip_high=0\.2 hardly ever clip a sequence ratio"):
        loss_of(*batch(), clip_low=0.01, clip_high=0.2)


def test_k1_is_refused_because_it_holds_nothing_back():
    new, old, _, mask = batch()
    with pytest.raises(ValueError, match="'k1' has an expected gradient of zero"):
        kl_penalty(new, old, mask, estimator="k1")


NEW, OLD, ADVANTAGES, MASK = batch()
LENGTHS = MASK.sum(1)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: gspo_loss(NEW, OLD, ADVANTAGES, None), ValueError, "not neither"),
        (lambda: gspo_loss(NEW, OLD, ADVANTAGES, MASK, lengths=LENGTHS), ValueError, "not both"),
        (lambda: gspo_loss(NEW, OLD, ADVANTAGES, MASK.float()), TypeError, "mask is torch.float32"),
        (lambda: gspo_loss(NEW, OLD, ADVANTAGES, MASK[:2]), ValueError, r"mask \(2, 6\)"),
        (lambda: gspo_loss(NEW, OLD[:2], ADVANTAGES, MASK), ValueError, r"\(2, 6\), should have"),
        (lambda: gspo_loss(NEW, OLD, ADVANTAGES[:2], MASK), ValueError, r"advantages has shape"),
        (lambda: gspo_loss(NEW, OLD, NEW, MASK), ValueError, r"advantages has shape \(4, 6\)"),
        (lambda: gspo_loss(NEW, OLD, ADVANTAGES, MASK, NEW), ValueError, "weights has shape"),
        (lambda: grpo_loss(NEW, OLD, NEW[:2], MASK), ValueError, r"one per token, \(4, 6\)"),
        (lambda: gspo_loss(NEW, OLD, ADVANTAGES, MASK, clip_low=-1), ValueError, "clip_low=-1"),
        (
            lambda: gspo_loss(NEW[0], OLD[0], ADVANTAGES, None, lengths=LENGTHS),
            ValueError,
            "sum to 15 with minimum 1; they should be at least 0 and sum to the 6",
        ),
        (
            lambda: gspo_loss(NEW[0], OLD[0], ADVANTAGES, None, lengths=LENGTHS.int()),
            TypeError,
            "lengths is torch.int32",
        ),
        (
            lambda: grpo_loss(NEW, OLD, ADVANTAGES, MASK, dual_clip=3.0, delta=3.0),
            ValueError,
            "are the same bound; give one",
        ),
        (
            lambda: grpo_loss(NEW, OLD, ADVANTAGES, MASK, delta=1.1),
            ValueError,
            r"delta=1\.1 should be above 1 \+ clip_high",
        ),
        (lambda: sapo_loss(NEW, OLD, ADVANTAGES, MASK, tau_pos=0.0), ValueError, r"tau_pos=0\.0"),
        (lambda: cispo_loss(NEW, OLD, ADVANTAGES, MASK, w_min=6.0), ValueError, r"w_min=6\.0"),
        (lambda: gmpo_loss(NEW, OLD, ADVANTAGES, MASK, clip=-1.0), ValueError, r"clip=-1\.0"),
        (lambda: vespo_loss(NEW, OLD, ADVANTAGES, MASK, k_neg=-1.0), ValueError, r"k 2\.0, -1\.0"),
        (lambda: dppo_loss(NEW, OLD, ADVANTAGES, MASK, delta_low=-1), ValueError, "delta_low=-1"),
        (
            lambda: dppo_loss(NEW, OLD, ADVANTAGES, MASK, divergence="js"),
            ValueError,
            "unknown divergence 'js'",
        ),
        (lambda: reinforce_loss(NEW, OLD, ADVANTAGES, MASK, w_max=0.0), ValueError, r"w_max=0\.0"),
        (lambda: kl_penalty(NEW, OLD, MASK), ValueError, "'k3_is' needs old_logprobs"),
        (lambda: kl_penalty(NEW, OLD, MASK, estimator="k4"), ValueError, "unknown estimator 'k4'"),
        (
            lambda: kl_penalty(NEW, OLD, MASK, old_logprobs=OLD, level="group"),
            ValueError,
            "level is 'group'",
        ),
        (
            lambda: policy_metrics(NEW, OLD, ADVANTAGES, MASK, level="group", **BAND),
            ValueError,
            "level is 'group'",
        ),
    ],
)
def test_what_does_not_fit_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
