"""Which importance ratio a loss uses and where it clips it, from its off-policy gradient."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import torch

from gspo_rs.conformance.probe import (
    Case,
    Finding,
    LossFunction,
    alike,
    ask,
    one_sequence,
    reference_case,
)

Level = Literal["token", "sequence", "product", "padded", "unknown"]

LENGTH = 6
SMALL = 2.0**-13  # within any clip band, and no rounding in float32
FAR = 3.0  # nats beyond any


def ratio_level(loss_of: LossFunction) -> Level:
    """Return whose ratio weighs a token: its own, or the mean or product of its sequence's."""
    case = one_sequence(LENGTH, 1.0)
    move = torch.zeros_like(case.old)
    move[0, 0] = SMALL
    before, after = ask(loss_of, case)[1][0, 1], ask(loss_of, case.moved(move))[1][0, 1]
    if before == 0 or after / before <= 0:
        return "unknown"
    share = math.log(float(after / before)) / SMALL
    levels: dict[Level, float] = {
        "token": 0.0,
        "sequence": 1 / LENGTH,
        "padded": 1 / (LENGTH + 2),
        "product": 1.0,
    }
    return next((k for k, value in levels.items() if abs(share - value) < 0.015), "unknown")


def clip_bound(loss_of: LossFunction, advantage: float, side: int) -> float | None:
    """Return how far from 1 a ratio ends the gradient, moving all tokens alike; None if never."""
    case = one_sequence(LENGTH, advantage)
    if _slope(loss_of, case, side * FAR) != 0:
        return None
    inside, outside = 0.0, FAR
    for _ in range(60):
        middle = (inside + outside) / 2
        if _slope(loss_of, case, side * middle) == 0:
            outside = middle
        else:
            inside = middle
    return abs(math.expm1(side * outside))


def ratio_findings(loss_of: LossFunction) -> Iterator[Finding]:
    """Yield the faults of the ratio and its clipping."""
    level = ratio_level(loss_of)
    if level == "product":
        yield Finding(
            "summed sequence ratio",
            f"the log-ratio of a sequence is summed over its tokens, not averaged: with {LENGTH} "
            f"tokens its power is {LENGTH} times too high",
        )
    if level == "padded":
        yield Finding(
            "divides by padded length",
            f"the mean log-ratio of a sequence divides by the {LENGTH + 2} columns, not by its "
            f"{LENGTH} tokens",
        )
    yield from _clip_findings(loss_of, level)
    yield from _extreme_findings(loss_of)


def _clip_findings(loss_of: LossFunction, level: Level) -> Iterator[Finding]:
    high, low = clip_bound(loss_of, 1.0, 1), clip_bound(loss_of, 1.0, -1)
    by_token = high is not None and _clips_by_token(loss_of, high)
    if level in ("sequence", "padded") and high is not None and high > 0.02 and not by_token:
        yield Finding(
            "clip never binds",
            f"epsilon {high:.3g} on a sequence ratio, which is a geometric mean over tokens and "
            "moves in the fourth digit; the GSPO paper has 3e-4 and 4e-4",
        )
    if level == "token" and high is not None and not by_token:
        yield Finding(
            "mean of ratios",
            "a token weighs its own ratio, but the clip looks at the mean of a sequence's ratios; "
            "the ratio of a sequence is exp of the mean of its log-ratios",
        )
    if level == "token" and by_token and high is not None and high < 2e-3:
        yield Finding(
            "clip always binds",
            f"epsilon {high:.3g} on a token ratio, which moves in the second digit: that is the "
            "clip of a sequence ratio; GRPO has 0.2",
        )
    below = clip_bound(loss_of, -1.0, -1)
    if level in ("token", "sequence") and high is not None and low is None and below is None:
        yield Finding(
            "clip on one side",
            f"ratios above {1 + high:.6g} end the gradient of a good sequence, but none, however "
            "low, that of a bad one; use -min(ratio * A, clip(ratio) * A)",
        )
    if low is not None and high is None:
        yield Finding(
            "clip reversed",
            "at a positive advantage the gradient ends below the band and not above it: it takes "
            "the better of the two terms; use -min(ratio * A, clip(ratio) * A)",
        )
    elif low is not None:
        yield Finding(
            "clipped on both sides",
            f"at a positive advantage the gradient also ends at ratio {1 - low:.3g}, where it "
            "would bring the policy back; use -min(ratio * A, clip(ratio) * A)",
        )


def _slope(loss_of: LossFunction, case: Case, log_ratio: float) -> float:
    return float(ask(loss_of, case.moved(log_ratio))[1][0, 0])


def _clips_by_token(loss_of: LossFunction, bound: float | None) -> bool:
    """Return whether one token beyond the bound loses its gradient, its sequence within."""
    case = one_sequence(LENGTH, 1.0)
    move = torch.zeros_like(case.old)
    move[0, 0] = 1.2 * math.log1p(bound or 0.0)
    return float(ask(loss_of, case.moved(move))[1][0, 0]) == 0


def _extreme_findings(loss_of: LossFunction) -> Iterator[Finding]:
    for log_ratio in (100.0, -100.0):
        loss, gradient = ask(loss_of, _single(reference_case().moved(log_ratio)))
        if not (loss.isfinite() and gradient.isfinite().all()):
            yield Finding(
                "overflow",
                f"a log-ratio of {log_ratio:g} gives inf or NaN in float32; clamp it to 20 nats "
                "either way before exp, also for the branch that is not selected",
            )
            break
    case = reference_case()
    empty = replace(case, mask=case.mask & (torch.arange(4) != 1).unsqueeze(1))
    loss, gradient = ask(loss_of, empty)
    rest = ask(loss_of, case.rows([0, 2, 3]))[1]
    if not (loss.isfinite() and gradient.isfinite().all()):
        yield Finding(
            "empty sequence",
            "a sequence without tokens gives NaN; divide by mask.sum(dim=1).clamp(min=1)",
        )
    elif not alike(gradient[[0, 2, 3]], rest):
        yield Finding(
            "empty sequence",
            f"a sequence without tokens multiplies the gradient of the others by "
            f"{float(gradient[0, 0] / rest[0, 0]):.3g}: it is counted in the mean",
        )
    yield from _precision_findings(loss_of)


def _precision_findings(loss_of: LossFunction) -> Iterator[Finding]:
    case = reference_case()
    # Small log-probabilities, whose bfloat16 differences still hold the drift.
    old = (case.old / 16).bfloat16()
    drift = 2e-3 * torch.arange(-4, 5) * (case.mask.sum(dim=1, keepdim=True) % 5 - 2)
    low = Case((old + drift).bfloat16(), old, case.advantages.float(), case.mask)
    exact = Case(low.new.double(), old.double(), low.advantages.double(), low.mask)
    expected, found = ask(loss_of, exact)[1], ask(loss_of, low)[1]
    size = ask(loss_of, exact.moved(0.0))[1].abs()  # with every ratio 1
    # The gradient itself is bfloat16, so half a unit of its last digit is no fault.
    error = ((found - expected).abs() / size)[low.mask & (size > 0)]
    if not bool((error <= 2**-8).all()):
        yield Finding(
            "low precision",
            f"bfloat16 log-probabilities give gradients up to {float(error.max()):.1%} off: 1 + "
            "3e-4 does not exist in bfloat16; take ratio, clip and sums in float32",
        )


def _single(case: Case) -> Case:
    return Case(case.new.float(), case.old.float(), case.advantages.float(), case.mask)
