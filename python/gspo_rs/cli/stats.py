"""`gspo-rs stats`: a table about scored groups."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from gspo_rs.cli.errors import command
from gspo_rs.cli.names import named, place
from gspo_rs.cli.outcome import Outcome, counted, grouping
from gspo_rs.cli.parameters import By, Grades, Reward, Sources, Split
from gspo_rs.cli.terminal import printable

if TYPE_CHECKING:
    from gspo_rs.files.summary import Summary

NONE = "-"


@command("stopped", summarized=True)
def stats(
    source: Sources,
    /,
    *,
    by: By = None,
    reward: Reward = None,
    per: str | None = None,
    threshold: float | None = None,
    split: Split = None,
    grades: Grades = None,
) -> Outcome:
    """Describe scored groups in a table.

    Parameters
    ----------
    per
        Column to split by, such as the model; each value gets its own row.
    threshold
        For pass@k: the lowest reward of a right completion; 0.5 by default, if all rewards are 0
        or 1.
    """
    from gspo_rs.files.summary import summarize

    given = place(source, split, grades)
    keys = named(by, given)
    asked = {} if reward is None else {"reward": reward}
    found = summarize(given, by=keys, per=per, threshold=threshold, **asked)
    first, *others = [part.to_dict() for part in found]
    facts = {"verb": "stats", "whole": first, "parts": others}
    # Texts of the data are not markup, not :emoji: and not numbers to colour.
    console = Console(markup=False, emoji=False, highlight=False)
    title = " ".join(source) + (f" by {', '.join(keys)}" if keys else "")
    with console.capture() as shown:
        console.print(printable(title), soft_wrap=True)
        console.print(whole(found[0]))
        if per is not None:
            console.print(parts(found[1:], per=per))
    lines = [f"{counted(found[0].rows, 'rows')} in {counted(found[0].groups, 'groups')}"]
    # A stream that was read is gone.
    more = [] if grades is None else ["--grades", str(grades)]
    following = [] if "-" in source else ["report", *source, *grouping(keys, reward), *more]
    return Outcome(lines, facts, result=shown.get(), following=following)


def whole(summary: Summary) -> Table:
    """Return a table with one row per statistic."""
    shown = Table(show_header=False)
    shown.add_column("")
    shown.add_column("", justify="right")
    for section in _sections(summary):
        for name, value in section.items():
            shown.add_row(name, value)
        shown.add_section()
    return shown


def parts(found: list[Summary], *, per: str) -> Table:
    """Return a table with one row per part."""
    import polars as pl

    from gspo_rs.data.labels import labelled

    names = pl.Series([summary.part for summary in found], dtype=pl.String)
    labels = pl.select(labelled(pl.lit(names))).to_series()
    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    shown.add_column(printable(per), overflow="fold")
    for name in ("rows", "groups", "signal", "ties", "mean", "within", "between", "pass@1"):
        shown.add_column(name, justify="right")
    for summary, label in zip(found, labels, strict=True):
        numbers = (summary.mean, summary.within, summary.between, summary.pass_at_k.get(1))
        shown.add_row(
            printable(label),
            f"{summary.rows:,}",
            f"{summary.groups:,}",
            f"{summary.informative:.1%}",
            _share(summary.ties),
            *map(_number, numbers),
        )
    return shown


def _sections(found: Summary) -> list[dict[str, str]]:
    from gspo_rs.files.summary import QUANTILES

    labels = {0.0: "minimum", 0.5: "median", 1.0: "maximum"}
    values = dict(zip(QUANTILES, found.quantiles or (), strict=False))
    quantiles = {labels.get(q, f"quantile {q:g}"): _number(values.get(q)) for q in QUANTILES}
    return [
        {"rows": f"{found.rows:,}", "without a reward": f"{found.unscorable:,}"},
        {
            "groups": f"{found.groups:,}",
            "size: min, median, max": ", ".join(f"{size:g}" for size in found.size),
            "informative groups": f"{found.informative:.1%}",
            "ties within groups": _share(found.ties),
        },
        {
            "mean reward": _number(found.mean),
            "standard deviation": _number(found.std),
            "variance within groups": _number(found.within),
            "variance between groups": _number(found.between),
        },
        quantiles,
        {
            f"pass@{k}, reward ≥ {found.threshold:g}": f"{chance:.3f}"
            for k, chance in found.pass_at_k.items()
        },
        {"pass@k": "needs --threshold"} if found.threshold is None else {},
    ]


def _share(value: float | None) -> str:
    return NONE if value is None else f"{value:.1%}"


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:.3g}"
