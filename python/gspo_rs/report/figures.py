"""The page's plots, with how to read them and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gspo_rs.report.comparisons import Curve, Standing
from gspo_rs.report.facts import Facts
from gspo_rs.report.format import count, cut, number, share
from gspo_rs.report.histograms import Histogram
from gspo_rs.report.plots import bars, intervals, lines, shares

__all__ = [
    "Figure",
    "Table",
    "about_draws",
    "about_groups",
    "about_models",
    "about_rewards",
    "about_signal",
    "as_bars",
    "counted",
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
    groups = f"{count(first.n_groups, 'group')} with {first.draws[-1]:,} scored rollouts or more"
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


def _sizes(facts: Facts) -> Figure:
    mean = facts.n_rollouts / facts.n_groups
    read = f"{count(facts.n_groups, 'group')}, of {number(mean)} rollouts on average."
    act = "A percentile moves in steps of 1 / (N - 1): small groups rank coarsely."
    return as_bars(facts.sizes, "Group sizes", "rollouts in a group", read=read, act=act)


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
    act = "What to do with those of each kind is said in the verdict."
    if not silent:
        read, act = "Every group has two different rewards.", "Every group teaches something."
    title = "Groups with a signal"
    return Figure(title, shares(parts, title=title), read, act, counted("groups", parts))


def _difficulty(facts: Facts) -> Figure:
    read = (
        f"The mean reward of each group, {number(facts.mean)} over all rollouts. Hard prompts "
        "stand on the left, easy ones on the right."
    )
    act = (
        "Groups at the highest and the lowest reward of all have no room to differ, those between "
        "them may."
    )
    return as_bars(facts.means, "Difficulty", "mean reward of a group", read=read, act=act)


def _rewards(facts: Facts) -> Figure:
    low, first, median, third, high = map(number, facts.quantiles)
    read = f"From {low} to {high}, the median {median}, half of them from {first} to {third}."
    act = "A heap at a value that you did not expect is often a grader that failed."
    return as_bars(facts.rewards, "Rewards", "reward", read=read, act=act, y="rollouts")


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
    return as_bars(facts.deviations, "Spread inside groups", x, read=read, act=act)


def _ties(facts: Facts) -> Figure:
    tied = facts.tied_pairs
    parts = [("equal rewards", tied), ("different rewards", facts.n_pairs - tied)]
    read = (
        f"{share(tied, facts.n_pairs)} of the pairs inside groups have equal rewards; half of the "
        f"groups have {number(facts.median_distinct)} distinct rewards or fewer."
    )
    if not facts.n_pairs:
        read = "No group has two scored rollouts."
    act = "Completions with equal rewards get equal advantages: nothing is learned between them."
    return Figure("Ties", shares(parts, title="Ties"), read, act, counted("pairs", parts))


def as_bars(
    found: Histogram, title: str, x: str, *, read: str, act: str, y: str = "groups"
) -> Figure:
    """Show how many `y` have each value of `x`."""
    parts = list(zip(found.labels, found.counts.tolist(), strict=True)) if found.total else []
    plot = bars(found, title=title, x=x, y=y) if parts else ""
    rows = [(place, f"{size:,}", share(size, found.total)) for place, size in parts]
    return Figure(title, plot, read, act, Table((x, y, "share"), rows))


def counted(what: str, parts: Sequence[tuple[str, int]]) -> Table:
    """Return parts of a whole as a table."""
    total = sum(size for _, size in parts)
    rows = [(name, f"{size:,}", share(size, total)) for name, size in parts]
    return Table(("part", what, "share"), rows)
