"""Plots and tables of the completions' texts: their lengths, their copies, what graders do."""

from __future__ import annotations

import math

from gspo_rs.report.duplicates import Copies
from gspo_rs.report.figures import Figure, Table, as_bars, counted
from gspo_rs.report.format import number, share
from gspo_rs.report.grader import Noise
from gspo_rs.report.lengths import LengthEffect, Lengths
from gspo_rs.report.plots import shares, trend

__all__ = ["about_copies", "about_length", "about_lengths", "about_noise"]


def about_lengths(found: Lengths) -> Figure:
    """Show how long completions are."""
    shortest, first, median, third, longest = map(number, found.quantiles)
    read = (
        f"From {shortest} to {longest} characters, {number(found.mean)} on average; the median is "
        f"{median}, and half of them have {first} to {third}."
    )
    act = "A heap at the longest is often a limit that cuts completions off."
    if found.bins.doubling:
        read += " Each bar holds lengths up to twice those of the one before."
    return as_bars(
        found.bins, "Lengths", "characters of a completion", read=read, act=act, y="completions"
    )


def about_noise(noise: Noise) -> Figure | None:
    """Show how much of the spread within groups is the grader's own; None with few repeats."""
    if math.isnan(noise.deviation):
        return None
    alike = noise.deviation**2
    read = (
        f"Completions that say the same in one group have rewards with a standard deviation of "
        f"{number(noise.deviation)}, over {noise.n_repeats:,} repeats; all completions of a group "
        f"{number(noise.within)}: {share(alike, noise.within**2)} of the variance within groups "
        "would be the grader's noise, if it is as noisy on the others as on those that repeat."
    )
    act = "Grading each completion twice and averaging halves that part."
    if not alike:
        act = f"No noise is seen in {noise.n_repeats:,} repeats: nothing to do."
    # Repeats may by chance differ more than the others.
    parts = [
        ("equal completions", min(alike, noise.within**2)),
        ("the rest", max(noise.within**2 - alike, 0.0)),
    ]
    rows = [
        ("equal completions", number(noise.deviation), number(alike)),
        ("all of a group", number(noise.within), number(noise.within**2)),
    ]
    title = "The grader's noise"
    table = Table(("of", "standard deviation", "variance"), rows)
    return Figure(title, shares(parts, title=title), read, act, table)


def about_length(effect: LengthEffect) -> Figure:
    """Show whether long completions stand higher in their groups."""
    found = effect.correlation
    read = (
        "Completions of a group from the shortest (left) to the longest (right), and where their "
        f"reward stands: the correlation of the two percentiles is {number(found)} "
        f"(standard error over {effect.n_groups:,} groups: {number(effect.error)})."
    )
    if math.isnan(found):
        act = "Lengths or rewards never differ inside a group, so nothing can be said."
    elif not abs(found) >= 2 * effect.error:
        act = "That is within two standard errors of zero: no relation is seen."
    elif abs(found) < 0.1:
        act = "Near zero: the reward hardly pays for length."
    elif found > 0:
        act = "Longer ones win: training will lengthen completions. Is that what you want?"
    else:
        act = "Shorter ones win: look whether long completions are cut off before they answer."
    labels = ("percentile of the length", "percentile of the reward")
    rows = [
        (number(a), number(b), f"{n:,}")
        for a, b, n in zip(
            effect.length.tolist(), effect.reward.tolist(), effect.count.tolist(), strict=True
        )
    ]
    plot = trend(
        effect.length.tolist(), effect.reward.tolist(), title="Reward and length", labels=labels
    )
    return Figure("Reward and length", plot, read, act, Table((*labels, "rollouts"), rows))


def about_copies(copies: Copies) -> Figure:
    """Show how many completions say what another of the group has said."""
    parts = [
        ("first of its kind in its group", copies.n_completions - copies.n_copies),
        ("copy of an earlier one", copies.n_copies),
    ]
    read = (
        f"{share(copies.n_copies, copies.n_completions)} of the completions repeat another one of "
        f"their group, letter for letter, in {copies.n_groups:,} groups."
    )
    act = "Copies get one reward, or show that the grader is noisy; they teach nothing new."
    if not copies.n_copies:
        act = "Every completion of a group is its own: nothing to do."
    if copies.contradiction:
        (one, first), (other, second) = copies.contradiction
        act = (
            f"{copies.n_contradicted:,} of {copies.n_sets:,} repeated completions got different "
            f"rewards in one group, first {first:.6g} in row {one:,} and {second:.6g} in row "
            f"{other:,}: the grader contradicts itself, and that noise is learned like a signal."
        )
    title = "Copies inside groups"
    return Figure(title, shares(parts, title=title), read, act, counted("completions", parts))
