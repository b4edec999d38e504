"""The verdict: sentences that are true of this data set, each with what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gspo_rs.report.comparisons import Curve
from gspo_rs.report.duplicates import Copies, Repeated
from gspo_rs.report.facts import Facts
from gspo_rs.report.format import count, cut, number, share
from gspo_rs.report.grader import CheapWins, Noise
from gspo_rs.report.lengths import LengthEffect
from gspo_rs.report.versus import Versus

__all__ = ["Evidence", "Finding", "verdict"]

# From which values on something is said. A share of the groups that is worth a sentence.
SOME = 0.01
RARE, COARSE, BETWEEN, COPIED, RELATED = 0.1, 0.5, 0.25, 0.05, 0.1
FEW = 4
SURE = 0.05
# Groups from which on a correlation, or a text that wins so high, is no chance.
GROUPS, HIGH = 10, 0.8


@dataclass(frozen=True)
class Finding:
    """One sentence, what to do about it (or nothing), and whether it is good news."""

    say: str
    do: str = ""
    good: bool = False


@dataclass(frozen=True)
class Evidence:
    """What the sentences rest on; None is what this data set has no column for.

    `keep` is a command that keeps the groups with a signal, `n_mixed` the groups with rows of two
    models, whose column is `model`, and `other` the name of the source in `versus`.
    """

    facts: Facts
    keep: str = ""
    curve: Curve | None = None
    effect: LengthEffect | None = None
    copies: Copies | None = None
    noise: Noise | None = None
    wins: CheapWins | None = None
    repeated: Repeated | None = None
    n_mixed: int = 0
    model: str = ""
    versus: Versus | None = None
    other: str = ""


def verdict(evidence: Evidence) -> list[Finding]:
    """Return what can be said, what teaches first."""
    rules = (_signal, _silent, _quality, _rewards, _models, _lengths, _texts, _grader, _versus)
    return [finding for rule in rules for finding in rule(evidence)]


def _signal(evidence: Evidence) -> Iterator[Finding]:
    facts = evidence.facts
    n, total = facts.n_informative, facts.n_groups
    if facts.n_values == 1:
        only = f"All rewards are {number(facts.mean)}"
        yield Finding(f"{only}: nothing here can teach.", "Check the grader before anything else.")
    elif n == 0:
        yield Finding("No group has two different rewards: nothing here can teach.")
    elif n == total:
        yield Finding(
            f"All {total:,} groups have different rewards: every one can teach."
            if total > 1
            else "The one group has different rewards and can teach.",
            good=True,
        )
    else:
        yield Finding(
            f"{n:,} of {total:,} groups ({share(n, total)}) have different rewards and can teach; "
            f"in the other {total - n:,} every advantage is 0.",
            f"Keep those that teach: {evidence.keep}" if evidence.keep else "",
            good=2 * n >= total,
        )


def _silent(evidence: Evidence) -> Iterator[Finding]:
    facts = evidence.facts
    if facts.n_values == 1:
        equal = []
    elif facts.n_equal_right is not None:
        equal = _right_or_wrong(facts)
    else:
        equal = _equal(facts)
    reasons = [
        *equal,
        (
            facts.n_unscored,
            "no reward at all",
            "Nothing is known of these prompts: score their completions, or leave them out.",
        ),
        (
            facts.n_alone,
            "a single completion, and nothing to compare it with",
            "Sample these prompts more often.",
        ),
        (
            facts.n_half_scored,
            "one completion with a reward among several without",
            "Find out why the others have none.",
        ),
    ]
    for n, what, do in sorted(reasons, key=lambda reason: -reason[0]):
        if n and n >= SOME * facts.n_groups:
            has = "has" if n == 1 else "have"
            yield Finding(f"{count(n, 'group')} ({share(n, facts.n_groups)}) {has} {what}.", do)


def _right_or_wrong(facts: Facts) -> list[tuple[int, str, str]]:
    right = facts.n_equal_right or 0
    return [
        (
            right,
            "right completions only",
            "Too easy for what sampled them: they teach once harder ones take their place.",
        ),
        (
            facts.n_equal - right,
            "wrong completions only",
            "Too hard for so many draws, or the grader never says yes: read some below.",
        ),
    ]


def _equal(facts: Facts) -> list[tuple[int, str, str]]:
    low, high = number(facts.quantiles[0]), number(facts.quantiles[-1])
    between = facts.n_equal - facts.n_equal_top - facts.n_equal_bottom
    return [
        (
            facts.n_equal_top,
            f"the highest reward of all, {high}, throughout",
            "If that is the best that a completion can get, these prompts are too easy.",
        ),
        (
            facts.n_equal_bottom,
            f"the lowest reward of all, {low}, throughout",
            "Too hard, or graded wrongly: read some below.",
        ),
        (
            between,
            f"one and the same reward throughout, between {low} and {high}",
            "Look whether the grader can tell these completions apart.",
        ),
    ]


def _quality(evidence: Evidence) -> Iterator[Finding]:
    facts, curve = evidence.facts, evidence.curve
    if not facts.n_informative:
        return
    if facts.median_taught < FEW:
        yield Finding(
            f"Half of the groups that teach have {number(facts.median_taught)} completions with a "
            "reward or fewer: their ranks are coarse.",
            "Sample each prompt more often.",
        )
    if facts.threshold is not None and curve is not None and curve.mean[0] < RARE:
        first, last, k = curve.mean[0], curve.mean[-1], curve.draws[-1]
        if last >= 2 * first:
            yield Finding(
                f"Right completions are rare: one draw is right in {share(first, 1)} of the cases, "
                f"one of {k:,} in {share(last, 1)}.",
                "Large groups find them; small ones would mostly be wrong throughout.",
            )
    total = facts.spread.within + facts.spread.between
    if facts.spread.within < BETWEEN * total:
        yield Finding(
            f"Only {share(facts.spread.within, total)} of the variance of rewards lies within "
            "groups: most of it says how hard a prompt is, which no advantage uses.",
            "Look for prompts of which a part of the completions is right.",
        )


def _rewards(evidence: Evidence) -> Iterator[Finding]:
    facts = evidence.facts
    if facts.n_informative and facts.n_values == 2:
        low, high = facts.quantiles[0], facts.quantiles[-1]
        yield Finding(
            f"Rewards have two values, {number(low)} and {number(high)}: a rank in the group says "
            "which of them, and nothing finer."
        )
    elif facts.n_informative and facts.tied_pairs >= COARSE * facts.n_pairs:
        yield Finding(
            f"{share(facts.tied_pairs, facts.n_pairs)} of the pairs inside groups have equal "
            "rewards.",
            "A finer grader would tell more completions apart.",
        )
    if n := facts.n_unscorable_beside:
        rows = f"{count(n, 'completion')} ({share(n, facts.n_rollouts)})"
        yield Finding(
            f"{rows} {'has' if n == 1 else 'have'} no reward in groups where others have one.",
            "A grader that fails on long or odd ones biases what is learned: read some below.",
        )


def _models(evidence: Evidence) -> Iterator[Finding]:
    n = evidence.n_mixed
    if n:
        yield Finding(
            f"{count(n, 'group')} {'mixes' if n == 1 else 'mix'} completions of two or more values "
            f"of {evidence.model}: ranks there compare these with each other.",
            f"To train one of them on its own completions, add --by {evidence.model}.",
        )


def _lengths(evidence: Evidence) -> Iterator[Finding]:
    effect = evidence.effect
    if effect is None or effect.n_groups < GROUPS:
        return
    # NaN is in no relation.
    if not (abs(effect.correlation) >= RELATED and abs(effect.correlation) >= 2 * effect.error):
        return
    r = f"correlation {number(effect.correlation)} ± {number(effect.error)}"
    if effect.correlation > 0:
        yield Finding(
            f"Inside groups longer completions have higher rewards ({r}).",
            "Training will lengthen completions: is that what you want?",
        )
    else:
        yield Finding(
            f"Inside groups shorter completions have higher rewards ({r}).",
            "Training will shorten completions: look whether the long ones were cut off.",
        )


def _texts(evidence: Evidence) -> Iterator[Finding]:
    copies, wins, text = evidence.copies, evidence.wins, evidence.repeated
    if copies and copies.n_copies and copies.n_copies >= COPIED * copies.n_completions:
        yield Finding(
            f"{share(copies.n_copies, copies.n_completions)} of the completions repeat another one "
            "of their group, letter for letter.",
            "Sample at a higher temperature, or drop the repeats.",
        )
    if wins and wins.n_empty:
        yield Finding(
            f"{count(wins.n_empty, 'empty completion')} {_have(wins.n_empty)} a reward above the "
            "lowest of the group.",
            "Mend the grader: it pays for saying nothing.",
        )
    if wins and wins.n_short:
        yield Finding(
            f"{count(wins.n_short, 'completion')} {_have(wins.n_short)} the highest reward of the "
            "group with less than a tenth of its median length.",
            "Read them below: a short cut may be what is rewarded.",
        )
    if text and text.n_groups >= GROUPS and text.percentile > HIGH:
        yield Finding(
            f"One text stands in {text.n_groups:,} groups and beats {share(text.percentile, 1)} of "
            "the others there.",
            "Read it below: it may have found a hole in the grader.",
        )


def _grader(evidence: Evidence) -> Iterator[Finding]:
    copies, noise = evidence.copies, evidence.noise
    if copies is None or noise is None:
        return
    if copies.n_contradicted:
        known = noise.deviation == noise.deviation and noise.within > 0
        part = (
            f"; such noise is {share(noise.share, 1)} of the variance within groups"
            if known
            else ""
        )
        yield Finding(
            f"The grader contradicts itself: {copies.n_contradicted:,} of "
            f"{count(copies.n_sets, 'repeated completion')} got different rewards in one "
            f"group{part}.",
            "That noise is learned like a signal: grade several times and average, or drop it.",
        )
    elif noise.deviation == 0:
        yield Finding(
            f"The grader is consistent: {noise.n_repeats:,} repeats of a completion in its group "
            "all got the same reward.",
            good=True,
        )


def _versus(evidence: Evidence) -> Iterator[Finding]:
    found = evidence.versus
    if found is None:
        return
    other, moved = cut(evidence.other), found.better + found.worse
    if not moved:
        yield Finding(f"No group's mean reward differs from that in {other}.")
        return
    split = (
        f"{count(found.better, 'group')} better and {found.worse:,} worse than in {other} "
        f"(sign test, p = {found.p:.2g})"
    )
    if found.p < SURE:
        word = "Better" if found.better > found.worse else "Worse"
        good = found.better > found.worse
        yield Finding(f"{word} than {other}: {split}.", good=good)
    else:
        yield Finding(f"Not surely different from {other}: {split}.", "More prompts would tell.")


def _have(n: int) -> str:
    return "has" if n == 1 else "have"
