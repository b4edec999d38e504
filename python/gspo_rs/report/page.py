"""The report: numbers, plots and texts of scored completions in one HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from gspo_rs._core import __version__
from gspo_rs.data.known_schemas import with_known_columns
from gspo_rs.data.source import Source, SourceLike, locate
from gspo_rs.files.atomic import write_text
from gspo_rs.files.target import checked_target
from gspo_rs.groups.statistics import GroupStats, stats
from gspo_rs.report.comparisons import curves, standings
from gspo_rs.report.duplicates import MANY, Repeated, copies, repeated
from gspo_rs.report.examples import Example, Row, choose_groups, gather, unscorable_rows
from gspo_rs.report.facts import Facts, find_facts, length_effect
from gspo_rs.report.figures import (
    Figure,
    about_copies,
    about_draws,
    about_groups,
    about_length,
    about_models,
    about_rewards,
    about_signal,
)
from gspo_rs.report.format import cut, number, share
from gspo_rs.report.load import Names, ReportRows, choose, read

__all__ = ["report"]


@dataclass(frozen=True)
class Section:
    """A heading with its plots, and notes on what is missing."""

    name: str
    title: str
    figures: Sequence[Figure] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Texts:
    """What the page shows of single rows and groups."""

    rows: Mapping[int, Row]
    groups: Mapping[str, Sequence[Example]]
    unscorable: Sequence[int]
    n_repeated: int = 0
    repeated: Sequence[Repeated] = field(default_factory=tuple)


@with_known_columns
def report(
    source: SourceLike,
    target: str | Path,
    *,
    by: str | Sequence[str],
    reward: str = "reward",
    prompt: str | None = None,
    completion: str | None = None,
    model_column: str | None = None,
    threshold: float | None = None,
    overwrite: bool = False,
) -> Path:
    """Write one HTML page about scored completions that opens anywhere, without a network.

    Parameters
    ----------
    source : path, glob, sequence of these, LazyFrame or DataFrame
        One row per completion; see `gspo_rs.data.scan`. The rows of a group may lie anywhere.
    target : path
        The HTML file.
    by : str or sequence of str
        The columns that name the group of a row.
    reward : str
        Column of the rewards: numbers or bools, null or NaN for an unscorable completion.
    prompt, completion, model_column : str, optional
        Columns of the texts and of what wrote the completion. Without them ``prompt``;
        ``completion`` or ``response``; and ``source`` or ``model`` are taken where just one is
        there. What needs a column that is not there is left out, and the page says so.
    threshold : float, optional
        The reward from which on a completion is right. Rewards that are all 0 or 1 need none.
    overwrite : bool
        Whether a `target` that is there may be replaced; one that is read never is.

    Returns
    -------
    Path
        The file, which holds all styles and plots and no script; under 1 MB.

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
    >>> "33.3 %" in page or "50 %" in page
    True
    """
    located = locate(source)
    path = checked_target(target, located, [], overwrite=overwrite)
    if not path.parent.is_dir():
        raise NotADirectoryError(f"{path.parent} is no folder; make it first")
    given = {"prompt": prompt, "completion": completion, "model": model_column}
    names = choose(located, by=by, reward=reward, given=given)
    narrow = read(located, names)
    found = stats(narrow.reward, narrow.groups)
    facts = find_facts(narrow, found, threshold)
    texts = _texts(located, names, narrow, found)
    write_text(
        path, _render(located, names, narrow, facts, found=found, texts=texts), overwrite=overwrite
    )
    return path


def _texts(source: Source, names: Names, narrow: ReportRows, found: GroupStats) -> Texts:
    groups = choose_groups(narrow, found)
    unscorable = unscorable_rows(narrow)
    n_repeated, many = repeated(narrow) if narrow.text is not None else (0, ())
    shown = [row for kind in groups.values() for one in kind for row in (one.high, one.low)]
    shown += [*unscorable, *(one.row for one in many)]
    return Texts(gather(source, names, narrow, shown), groups, unscorable, n_repeated, many)


def _sections(names: Names, narrow: ReportRows, facts: Facts, found: GroupStats) -> list[Section]:
    return [
        Section("groups", "Groups", about_groups(facts)),
        Section("signal", "Signal", about_signal(facts)),
        Section("rewards", "Rewards", about_rewards(facts)),
        _draws(narrow, facts),
        _models(names, narrow, found),
        _completions(names, narrow, found),
    ]


def _draws(narrow: ReportRows, facts: Facts) -> Section:
    title = "More draws from a prompt"
    found = curves(narrow, facts.threshold)
    if not found:
        note = "Left out: most groups have one scored rollout, which says nothing of more draws."
        return Section("draws", title, notes=[note])
    notes = []
    if facts.threshold is None:
        notes = ["Rewards are not all 0 or 1: give --threshold for pass at k."]
    return Section("draws", title, about_draws(found, facts.threshold), notes)


def _models(names: Names, narrow: ReportRows, found: GroupStats) -> Section:
    title = "Models"
    if narrow.model is None:
        return Section("models", title, notes=[f"Left out: {names.missing['model']}."])
    compared = standings(narrow, found)
    if not compared:
        note = f"Left out: no group compares two values of {cut(names.model or '')}."
        return Section("models", title, notes=[note])
    return Section("models", title, about_models(compared))


def _completions(names: Names, narrow: ReportRows, found: GroupStats) -> Section:
    title = "Completions"
    if narrow.text is None:
        return Section("completions", title, notes=[f"Left out: {names.missing['completion']}."])
    counted = copies(narrow)
    if not counted.n_completions:
        note = f"Left out: the column {cut(names.completion or '')} holds no text."
        return Section("completions", title, notes=[note])
    figures = [about_length(length_effect(narrow, found)), about_copies(counted)]
    return Section("completions", title, figures)


def _render(
    source: Source,
    names: Names,
    narrow: ReportRows,
    facts: Facts,
    *,
    found: GroupStats,
    texts: Texts,
) -> str:
    environment = Environment(
        loader=PackageLoader("gspo_rs.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    environment.filters["cut"] = cut
    return environment.get_template("page.html.j2").render(
        name=cut(source.name),
        names=names,
        facts=facts,
        sections=_sections(names, narrow, facts, found),
        texts=texts,
        many=MANY,
        version=__version__,
        share=share,
    )
