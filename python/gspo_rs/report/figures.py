"""The page's plots, with how to read them and what to do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from gspo_rs.report.comparisons import Curve, Standing
from gspo_rs.report.duplicates import Copies
from gspo_rs.report.facts import Facts, LengthEffect
from gspo_rs.report.format import cut, number, share
from gspo_rs.report.histograms import Histogram
from gspo_rs.report.plots import bars, intervals, lines, shares, trend

__all__ = [
    "Figure",
    "Table",
    "about_copies",
    "about_draws",
    "about_groups",
    "about_length",
    "about_models",
    "about_rewards",
    "about_signal",
]

# Models that get a line of the plot and of the table.
MODELS = 30


@dataclass(frozen=True)
class Table:
    """Numbers of a plot, for readers who cannot see it or want exact values."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Figure:
    """A plot, what to read from it, what to do about it, and its numbers."""

    title: str
    svg: str
    read: str
    act: str
    table: Table


def about_groups(facts: Facts) -> list[Figure]:
    """Show how large the groups are, and how hard their prompts."""
    return [_sizes(facts), _difficulty(facts)]


def about_rewards(facts: Facts) -> list[Figure]:
    """Show how rewards are distributed, over all rollouts and inside groups."""
    return [_rewards(facts), _deviations(facts)]


def about_signal(facts: Facts) -> list[Figure]:
    """Show what of the rewards can tell the completions of a group apart."""
    return [_signal(facts), _spread(facts), _ties(facts)]


def about_draws(curves: Sequence[Curve], threshold: float | None) -> list[Figure]:
    """Show what more completions of the same prompt would bring."""
    first = curves[0]
    name = "Best of k" if threshold is None else "Pass at k"
    y = "best reward" if threshold is None else "chance of a right one"
    gain = first.mean[-1] - first.mean[0]
    meant = (
        "the mean of the highest of k rewards"
        if threshold is None
        else f"the chance that one of k completions is right (reward {number(threshold)} or more)"
    )
    groups = f"{first.n_groups:,} groups with {first.draws[-1]:,} scored rollouts or more"
    read = (
        f"The line is {meant}, without bias, over {groups}: {number(first.mean[0])} for one "
        f"draw, {number(first.mean[-1])} for {first.draws[-1]:,} ({cut(first.name)})."
    )
    act = (
        "A line that still rises says that larger groups find better completions to learn from; "
        "a flat one, that they cost without a gain."
    )
    if not gain > 0:
        act = "The line is flat: larger groups cost without a gain."
    rows = [
        (cut(curve.name), f"{k:,}", number(mean), number(error), f"{curve.n_groups:,}")
        for curve in curves
        for k, mean, error in zip(curve.draws, curve.mean, curve.error, strict=True)
    ]
    table = Table(("of", "k", y, "standard error", "groups"), rows)
    return [Figure(name, lines(curves, title=name, y=y), read, act, table)]


def about_models(standings: Sequence[Standing]) -> list[Figure]:
    """Show where the completions of each model stand in their groups."""
    shown = standings[:MODELS]
    best, last = shown[0], standings[-1]
    read = (
        f"A completion of {cut(best.model)} beats {share(best.percentile, 1)} of the others of "
        f"its group, one of {cut(last.model)} {share(last.percentile, 1)}. The mean of each prompt "
        "counts once; the line spans two standard errors over prompts to both sides."
    )
    act = "Models whose lines overlap cannot be ranked by these prompts: add prompts first."
    rows = [
        (
            cut(one.model),
            number(one.percentile),
            number(one.error),
            f"{one.n_groups:,}",
            f"{one.n_rollouts:,}",
            number(one.reward),
        )
        for one in shown
    ]
    head = ("model", "mean percentile", "standard error", "prompts", "rollouts", "mean reward")
    plot = intervals(
        [(one.model, one.percentile, one.error) for one in shown],
        title="Rank percentile by model",
        x="mean percentile in the group",
        middle=0.5,
    )
    return [Figure("Rank percentile by model", plot, read, act, Table(head, rows))]


def about_length(effect: LengthEffect) -> Figure:
    """Show whether long completions stand higher in their groups."""
    found = effect.correlation
    read = (
        "Completions of a group from the shortest (left) to the longest (right), and where their "
        f"reward stands: the correlation of the two percentiles is {number(found)}."
    )
    if math.isnan(found):
        act = "Lengths or rewards never differ inside a group, so nothing can be said."
    elif abs(found) < 0.1:
        act = "Near zero: the reward does not pay for length."
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
    act = "Many copies of long completions call for a higher sampling temperature."
    if not copies.n_copies:
        act = "Every completion of a group is its own: nothing to do."
    if copies.contradiction:
        (one, first), (other, second) = copies.contradiction
        act = (
            f"{copies.n_contradicted:,} of {copies.n_sets:,} repeated completions got different "
            f"rewards in one group, first {first:.6g} in row {one:,} and {second:.6g} in row "
            f"{other:,}: the scorer contradicts itself, and that noise is learned like a signal."
        )
    title = "Copies inside groups"
    return Figure(title, shares(parts, title=title), read, act, _counted("completions", parts))


def _sizes(facts: Facts) -> Figure:
    mean = facts.n_rollouts / facts.n_groups
    read = f"{facts.n_groups:,} groups have {number(mean)} rollouts on average."
    act = "A percentile moves in steps of 1 / (N - 1): small groups rank coarsely."
    if facts.n_lone:
        lone = share(facts.n_lone, facts.n_groups)
        act = f"{facts.n_lone:,} groups ({lone}) have one scored rollout and no rank: sample more."
    return _bars(facts.sizes, "Group sizes", "rollouts in a group", read=read, act=act)


def _signal(facts: Facts) -> Figure:
    parts = [("two rewards differ: a signal", facts.n_informative)]
    if facts.n_equal_right is None:
        parts.append(("all rewards equal", facts.n_equal))
    else:
        parts.append(("all right", facts.n_equal_right))
        parts.append(("all wrong", facts.n_equal - facts.n_equal_right))
    parts += [("one scored rollout", facts.n_lone), ("none scored", facts.n_unscored)]
    silent = facts.n_groups - facts.n_informative
    read = (
        f"{share(silent, facts.n_groups)} of the groups have no signal: their advantages are all "
        "zero."
    )
    act = "Keep the informative ones, and swap prompts that are too easy or too hard."
    if not silent:
        read, act = "Every group has two different rewards.", "Every group teaches something."
    title = "Groups with a signal"
    return Figure(title, shares(parts, title=title), read, act, _counted("groups", parts))


def _difficulty(facts: Facts) -> Figure:
    read = (
        f"The mean reward of each group, {number(facts.mean)} over all rollouts. Hard prompts "
        "stand on the left, easy ones on the right."
    )
    act = "Heaps at the two ends are prompts that teach little; the middle teaches most."
    return _bars(facts.means, "Difficulty", "mean reward of a group", read=read, act=act)


def _rewards(facts: Facts) -> Figure:
    low, first, median, third, high = map(number, facts.quantiles)
    read = f"From {low} to {high}, the median {median}, half of them from {first} to {third}."
    act = "A heap at a value that you did not expect is often a scorer that failed."
    return _bars(facts.rewards, "Rewards", "reward", read=read, act=act, y="rollouts")


def _spread(facts: Facts) -> Figure:
    found = facts.spread
    parts = [("within groups", found.within), ("between groups", found.between)]
    total = found.within + found.between
    title = "Where rewards differ"
    read = (
        f"{share(found.within, total)} of the variance of rewards lies within groups, the rest "
        "between prompts."
    )
    act = "Only what differs within groups ranks completions; the rest is the prompt's difficulty."
    table = Table(
        ("part", "variance", "share"),
        [(name, number(part), share(part, total)) for name, part in parts],
    )
    return Figure(title, shares(parts, title=title), read, act, table)


def _deviations(facts: Facts) -> Figure:
    read = "The standard deviation of the rewards inside each group with two or more."
    act = "Far from zero the ranks are sure; near it they rest on small differences, often noise."
    x = "standard deviation"
    return _bars(facts.deviations, "Spread inside groups", x, read=read, act=act)


def _ties(facts: Facts) -> Figure:
    tied = facts.tied_pairs
    parts = [("equal rewards", tied), ("different rewards", facts.n_pairs - tied)]
    read = (
        f"{share(tied, facts.n_pairs)} of the pairs inside groups have equal rewards; half of the "
        f"groups have {number(facts.median_distinct)} distinct rewards or fewer."
    )
    if not facts.n_pairs:
        read = "No group has two scored rollouts."
    act = "Few distinct rewards make coarse ranks: a finer scorer would tell completions apart."
    return Figure("Ties", shares(parts, title="Ties"), read, act, _counted("pairs", parts))


def _bars(
    found: Histogram, title: str, x: str, *, read: str, act: str, y: str = "groups"
) -> Figure:
    edges = found.edges.tolist()
    places = [
        number((a + b) / 2) if found.whole else f"{number(a)} to {number(b)}"
        for a, b in pairwise(edges)
    ]
    parts = list(zip(places, found.counts.tolist(), strict=True))
    plot = bars(found, title=title, x=x, y=y) if parts else ""
    rows = [(place, f"{size:,}", share(size, found.total)) for place, size in parts]
    return Figure(title, plot, read, act, Table((x, y, "share"), rows))


def _counted(what: str, parts: Sequence[tuple[str, int]]) -> Table:
    total = sum(size for _, size in parts)
    rows = [(name, f"{size:,}", share(size, total)) for name, size in parts]
    return Table(("part", what, "share"), rows)
