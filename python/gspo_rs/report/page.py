"""The report: numbers, plots and texts of scored completions in one HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from gspo_rs.data.known_schemas import with_known_columns
from gspo_rs.data.nested_source import by_member
from gspo_rs.data.source import Source, SourceLike, locate
from gspo_rs.files.atomic import write_text
from gspo_rs.files.grades import GradedSource
from gspo_rs.files.target import checked_target
from gspo_rs.groups.statistics import GroupStats, stats
from gspo_rs.report.comparisons import curves
from gspo_rs.report.duplicates import MANY, Repeated, repeated
from gspo_rs.report.examples import Example, Row, choose_groups, gather, unscorable_rows
from gspo_rs.report.facts import Facts, find_facts
from gspo_rs.report.figures import Table
from gspo_rs.report.format import count, cut, number, share
from gspo_rs.report.load import Names, ReportRows, choose, read
from gspo_rs.report.origin import Origin, arguments, made, shown
from gspo_rs.report.result import Report
from gspo_rs.report.sections import (
    TextFacts,
    count_mixed,
    graded_section,
    sections,
    text_facts,
)
from gspo_rs.report.tables import moved, side_by_side
from gspo_rs.report.verdict import Evidence, verdict
from gspo_rs.report.versus import Versus, compared

__all__ = ["report"]


@dataclass(frozen=True)
class Texts:
    """What the page shows of single rows and groups."""

    rows: Mapping[int, Row]
    groups: Mapping[str, Sequence[Example]]
    unscorable: Sequence[int]
    n_repeated: int = 0
    repeated: Sequence[Repeated] = field(default_factory=tuple)
    cheap: Sequence[int] = ()


@dataclass(frozen=True)
class Data:
    """A source as the page sees it."""

    source: Source
    names: Names
    narrow: ReportRows
    found: GroupStats
    facts: Facts
    texts: TextFacts | None


@dataclass(frozen=True)
class Comparison:
    """Another source, and how this one differs from it."""

    name: str
    versus: Versus
    numbers: Table
    up: Table
    down: Table


@with_known_columns
def report(
    source: SourceLike,
    target: str | Path | None = None,
    *,
    by: str | Sequence[str] | None = None,
    reward: str = "reward",
    prompt: str | None = None,
    completion: str | None = None,
    model_column: str | None = None,
    per: str | Sequence[str] = (),
    compare: SourceLike | None = None,
    threshold: float | None = None,
    dry_run: bool = False,
    overwrite: bool = False,
) -> Report:
    """Write one HTML page about scored completions that opens anywhere, without a network.

    Parameters
    ----------
    source : path, glob, sequence of these, LazyFrame or DataFrame
        One row per completion; see `gspo_rs.data.scan`. The rows of a group may lie anywhere.
    target : path, optional
        The HTML file; without it the page is only returned.
    by : str or sequence of str
        The columns that name the group of a row.
    reward : str
        Column of the rewards: numbers or bools, null or NaN for an unscorable completion.
    prompt, completion, model_column : str, optional
        Columns of the texts and of what wrote the completion. Without them ``prompt``;
        ``completion`` or ``response``; and ``source`` or ``model`` are taken where just one is
        there. What needs a column that is not there is left out, and the page says so. Texts may be
        chat messages.
    per : str or sequence of str
        Columns such as the task, whose values get a line each in a table.
    compare : as `source`, optional
        Another source with the same columns, such as the completions of the model before training:
        its numbers stand beside those of `source`, and groups with the same key are compared.
    threshold : float, optional
        The reward from which on a completion is right. Rewards that are all 0 or 1 need none.
    dry_run : bool
        Whether to make the page, and not write it.
    overwrite : bool
        Whether a `target` that is there may be replaced; one that is read never is.

    Returns
    -------
    Report
        The page, which holds all styles and plots and no script, under 1 MB. It shows itself in a
        notebook, and may be given where a path may.

    Raises
    ------
    ValueError
        If a column is missing, an id is null, a reward is infinite (both name the row), there is
        no row or no reward, or `target` is a file of the source.
    TypeError
        If a column has the wrong type.
    OSError
        If the source can't be read or the file not be written.

    Notes
    -----
    Three passes over the source: ids and rewards; completions, of which their length and a digest
    are kept; the texts of the rows that are shown. Up to 300 bytes of memory a row, however long
    its text.

    Examples
    --------
    >>> import polars as pl, tempfile
    >>> frame = pl.DataFrame({"id": ["a", "a", "b"], "reward": [0.0, 1.0, 1.0]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = report(frame, f"{folder}/report.html", by="id").read_text()
    >>> "1 of 2 groups (50 %) have different rewards and can teach" in page
    True
    """
    located = locate(source)
    path = None
    if target is not None:
        path = checked_target(target, located, [], overwrite=overwrite)
    given = {"prompt": prompt, "completion": completion, "model": model_column}
    several = (per,) if isinstance(per, str) else tuple(per)
    data = _load(located, threshold, by=by, reward=reward, given=given, per=several)
    comparison, other = None, None
    if compare is not None:
        if not by:
            raise ValueError("groups of two sources are matched by their keys: name these (by=…)")
        other = locate(compare)
        if path is not None:
            checked_target(path, other, [], overwrite=overwrite)
        given = {"prompt": None, "completion": data.names.completion, "model": None}
        if given["completion"] not in other.check([]):
            given["completion"] = None
        before = _load(other, data.facts.threshold, by=by, reward=reward, given=given)
        comparison = _compared(data, before)
    asked = {
        "by": by if isinstance(by, str) or not by else list(by),
        "reward": None if reward == "reward" else reward,
    }
    options = {
        **asked,
        "prompt": prompt,
        "completion": completion,
        "model_column": model_column,
        "per": list(several) or None,
        "compare": None if other is None else " ".join(arguments(other)),
        "threshold": threshold,
        "grades": located.origin.folder.name if isinstance(located, GradedSource) else None,
    }
    keep = {**asked, "keep": "informative"}
    html = _render(data, made(located, options, keep), comparison)
    if path is not None and not dry_run:
        write_text(path, html, overwrite=overwrite)
    return Report(html, path)


def _load(
    source: Source, threshold: float | None, *, by: Any, reward: str, given: Any, **options: Any
) -> Data:
    beside = [given["model"], *options.get("per", ())]
    texts = {part: given[part] for part in ("prompt", "completion")}
    source, keys = by_member(source, by, [reward], **texts, beside=beside)
    names = choose(source, by=keys, reward=reward, given=given, **options)
    narrow = read(source, names)
    found = stats(narrow.reward, narrow.groups)
    facts = find_facts(narrow, found, threshold)
    return Data(source, names, narrow, found, facts, text_facts(narrow, found))


def _compared(here: Data, there: Data) -> Comparison:
    names = (shown(here.source), shown(there.source))
    if names[0] == names[1]:
        names = (f"{names[0]} (this)", f"{names[1]} (other)")
    versus = compared(here.found, there.found, there.source.name)
    numbers = side_by_side(_numbers(here), _numbers(there), names)
    return Comparison(names[1], versus, numbers, moved(versus.up, names), moved(versus.down, names))


def _numbers(data: Data) -> tuple[Any, Any, Any]:
    texts = data.texts
    return data.facts, texts and texts.copies, texts and texts.lengths


def _texts(data: Data) -> Texts:
    narrow = data.narrow
    groups = choose_groups(narrow, data.found)
    unscorable = unscorable_rows(narrow)
    n_repeated, many = repeated(narrow) if narrow.text is not None else (0, ())
    cheap = () if data.texts is None else data.texts.wins.rows
    shown_ = [row for kind in groups.values() for one in kind for row in one.members]
    shown_ += [row for kind in groups.values() for one in kind for row in (one.high, one.low)]
    shown_ += [*unscorable, *(one.row for one in many), *cheap]
    rows = gather(data.source, data.names, narrow, shown_)
    return Texts(rows, groups, unscorable, n_repeated, many, cheap)


def _evidence(data: Data, keep: str, texts: Texts, comparison: Comparison | None) -> Evidence:
    facts, found, names = data.facts, data.texts, data.names
    return Evidence(
        facts,
        keep=keep,
        curve=next(iter(curves(data.narrow, facts.threshold)), None),
        effect=found.effect if found else None,
        copies=found.copies if found else None,
        noise=found.noise if found else None,
        wins=found.wins if found else None,
        repeated=max(texts.repeated, key=lambda one: one.n_groups, default=None),
        n_mixed=count_mixed(data.narrow),
        model=names.model or "",
        versus=comparison.versus if comparison else None,
        other=comparison.name if comparison else "",
    )


def _render(data: Data, origin: Origin, comparison: Comparison | None) -> str:
    texts = _texts(data)
    environment = Environment(
        loader=PackageLoader("gspo_rs.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "cut": cut}
    return environment.get_template("page.html.j2").render(
        origin=origin,
        names=data.names,
        facts=data.facts,
        wins=data.texts and data.texts.wins,
        verdict=verdict(_evidence(data, origin.keep, texts, comparison)),
        comparison=comparison,
        sections=[
            *sections(data.names, data.narrow, data.facts, data.found, data.texts),
            *graded_section(data.source, data.narrow.groups),
        ],
        texts=texts,
        many=MANY,
        share=share,
        count=count,
    )
