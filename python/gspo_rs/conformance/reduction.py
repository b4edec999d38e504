"""How a loss reduces and masks tokens, from its gradient at ratio 1.

On policy every loss of the family has the gradient ``-w_i A_i`` at each token of sequence i, so
that its weights can be read off.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from gspo_rs.conformance.probe import (
    TOLERANCE,
    Case,
    Finding,
    LossFunction,
    alike,
    ask,
    factor,
    reference_case,
)
from gspo_rs.losses.reductions import Reduction, sequence_weights


def reduction_findings(loss_of: LossFunction) -> Iterator[Finding]:
    """Yield the faults of a loss in mask, weights and micro-batching."""
    case = reference_case()
    _, gradient = ask(loss_of, case)
    if not gradient.abs().max() > 0:
        yield Finding("no gradient", "on policy every gradient is 0; is the ratio detached?")
        return
    yield from _advantage_findings(loss_of, case, gradient)
    yield from _mask_findings(loss_of, case, gradient)
    yield from _scale_findings(loss_of, case, gradient)
    yield from _cut_findings(loss_of, case, gradient)


def weights_name(loss_of: LossFunction) -> str:
    """Return the reduction whose weights a loss has, up to a constant, or "unknown"."""
    case = reference_case()
    _, gradient = ask(loss_of, case)
    for name in ("seq_mean", "token_mean", "seq_sum"):
        if factor(gradient, _expected(case, name)) is not None:
            return name
    return "unknown"


def _expected(case: Case, reduction: Reduction) -> Tensor:
    weights = sequence_weights(case.mask.sum(dim=1), reduction)
    return -(weights * case.advantages).unsqueeze(1) * case.mask


def _advantage_findings(loss_of: LossFunction, case: Case, gradient: Tensor) -> Iterator[Finding]:
    without = replace(case, advantages=torch.zeros_like(case.advantages))
    if ask(loss_of, without)[1].abs().max() > 0:
        yield Finding(
            "term without advantage",
            "with all advantages 0 there is still a gradient; a KL penalty by k1 and an entropy "
            "bonus by the sampled token have one that is 0 in the mean, all noise",
        )
        return
    times = factor(ask(loss_of, replace(case, advantages=2 * case.advantages))[1], gradient)
    one = replace(case, advantages=case.advantages * torch.tensor([2.0, 1.0, 1.0, 1.0]))
    pull = (-gradient / case.advantages.unsqueeze(1))[case.mask]
    dead, against = int((pull == 0).sum()), int((pull < 0).sum())
    if times is None or abs(times - 2) > TOLERANCE:
        yield Finding(
            "normalises advantages inside",
            f"advantages twice as large multiply the gradient by {times or 'no one number'}, not "
            "2; statistics belong to the group, before the loss",
        )
    elif not alike(ask(loss_of, one)[1][1:], gradient[1:]):
        yield Finding(
            "advantages mixed up",
            "twice the advantage of one sequence changes the gradient of the others",
        )
    elif against:
        yield Finding(
            "sign reversed",
            f"{against} of {len(pull)} tokens are made less likely at a positive advantage or more "
            "likely at a negative one; the loss is minimised, so it is -ratio * advantage with "
            "ratio = exp(logprobs - old_logprobs)",
        )
    if dead and not gradient.masked_fill(case.mask, 0.0).abs().max() > 0:
        yield Finding(
            "tokens without gradient",
            f"{dead} of {len(pull)} sampled tokens get no gradient on policy, where every ratio is "
            "1 and no clip may act",
        )


def _mask_findings(loss_of: LossFunction, case: Case, gradient: Tensor) -> Iterator[Finding]:
    outside = gradient.masked_fill(case.mask, 0.0)
    shifted = case.mask.roll(1, dims=1)
    shifted[:, 0] = False
    if outside.abs().max() > 0 and not (gradient.masked_fill(shifted, 0.0)).abs().max() > 0:
        yield Finding(
            "mask shifted",
            "the gradient lies one column after the mask; logprobs[:, t] and mask[:, t] are the "
            "same token",
        )
    elif outside.abs().max() > 0:
        yield Finding(
            "mask ignored",
            f"{int((outside != 0).sum())} tokens outside the mask get a gradient",
        )
    else:
        junk = replace(case, new=case.new.masked_fill(~case.mask, -3.0))
        if not alike(ask(loss_of, junk)[1], gradient):
            yield Finding(
                "mask ignored", "a log-probability outside the mask changes the gradient inside"
            )
    dirty = replace(
        case,
        new=case.new.masked_fill(~case.mask, torch.nan),
        old=case.old.masked_fill(~case.mask, torch.nan),
    )
    loss, slopes = ask(loss_of, dirty)
    if not (loss.isfinite() and slopes.isfinite().all()):
        yield Finding(
            "NaN outside the mask",
            "NaN in a padded position reaches the loss or its gradient; 0 * NaN is NaN, so select "
            "the log-ratio by torch.where(mask, …, 0.0) before exp",
        )


def _scale_findings(loss_of: LossFunction, case: Case, gradient: Tensor) -> Iterator[Finding]:
    twice = torch.cat([case.old, case.old], dim=1)
    mask = torch.cat([case.mask, torch.zeros_like(case.mask)], dim=1)
    wide = Case(twice, twice, case.advantages, mask)
    width = case.mask.shape[1]
    ratio = factor(ask(loss_of, wide)[1][:, :width], gradient)
    if ratio is not None and abs(ratio - 1) > TOLERANCE:
        yield Finding(
            "divides by padded length",
            f"twice as many columns of padding multiply the gradient by {ratio:.3g}; divide by "
            "mask.sum(), not by the shape or by mean()",
        )
    elif ratio is None:
        yield Finding("padding changes the loss", "more padding changes the gradient")
    elif (times := factor(gradient, _expected(case, "seq_mean"))) and abs(times - 1) > TOLERANCE:
        # A constant length budget is a free choice; a mean over sequences is not.
        yield Finding(
            "scaled",
            f"the gradient is {times:.4g} times that of the mean over {len(case.mask)} sequences",
        )


def _cut_findings(loss_of: LossFunction, case: Case, gradient: Tensor) -> Iterator[Finding]:
    order = [2, 0, 3, 1]
    if not alike(ask(loss_of, case.rows(order))[1], gradient[order]):
        yield Finding("order of rows", "the sequences in another order get other gradients")
    holes = [0, 8, 1, 2, 7, 3, 4, 5, 6]
    if not alike(ask(loss_of, case.columns(holes))[1], gradient[:, holes]):
        yield Finding(
            "holes in the mask",
            "tokens masked out inside a completion change the gradient of the others; take lengths "
            "from mask.sum(dim=1)",
        )
    halves = [0, 3], [1, 2]  # 14 tokens and 4
    sums = torch.cat([ask(loss_of, case.rows(rows))[1] for rows in halves])
    parts, gradient = sums / 2, gradient[[0, 3, 1, 2]]
    # Neither the sum nor the mean over the two, as of a sum or a mean over sequences.
    if not (alike(sums, gradient) or alike(parts, gradient)):
        change = float(parts[0, 0] / gradient[0, 0]) if gradient[0, 0] else float("nan")
        yield Finding(
            "local mean",
            f"the mean over two halves of a step has {change:.3g} times the gradient of the step: "
            "it divides by the tokens of the micro-batch; divide by those of the whole step "
            "(sequence_weights)",
        )
