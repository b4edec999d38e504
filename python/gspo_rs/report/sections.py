"""The sections of the page: which plots and tables each has, or why it is left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from gspo_rs.data.source import Source
from gspo_rs.groups.groups import Groups
from gspo_rs.groups.statistics import GroupStats
from gspo_rs.report.breakdown import breakdown
from gspo_rs.report.comparisons import curves, standings
from gspo_rs.report.duplicates import Copies, copies
from gspo_rs.report.facts import Facts
from gspo_rs.report.figures import (
    Figure,
    Table,
    about_draws,
    about_groups,
    about_models,
    about_rewards,
    about_signal,
)
from gspo_rs.report.format import cut
from gspo_rs.report.grader import ENOUGH, CheapWins, Noise, cheap_wins, noise
from gspo_rs.report.grading import about_grader
from gspo_rs.report.lengths import LengthEffect, Lengths, find_lengths, length_effect
from gspo_rs.report.load import Labels, Names, ReportRows
from gspo_rs.report.tables import ROWS, by_value
from gspo_rs.report.text_figures import about_copies, about_length, about_lengths, about_noise

__all__ = [
    "Section",
    "TextFacts",
    "count_mixed",
    "graded_section",
    "sections",
    "text_facts",
]


@dataclass(frozen=True)
class Section:
    """A heading with its plots and titled tables, and notes on what is missing."""

    name: str
    title: str
    figures: Sequence[Figure] = ()
    notes: Sequence[str] = ()
    tables: Sequence[tuple[str, Table]] = ()


@dataclass(frozen=True)
class TextFacts:
    """Numbers about the completions."""

    lengths: Lengths
    effect: LengthEffect
    copies: Copies
    noise: Noise
    wins: CheapWins


def text_facts(narrow: ReportRows, found: GroupStats) -> TextFacts | None:
    """Describe the completions; None if there is no text."""
    if narrow.text is None:
        return None
    counted = copies(narrow)
    if not counted.n_completions:
        return None
    return TextFacts(
        find_lengths(narrow),
        length_effect(narrow, found),
        counted,
        noise(narrow),
        cheap_wins(narrow, found),
    )


def count_mixed(narrow: ReportRows) -> int:
    """Count the groups with completions of two models or more."""
    if narrow.model is None:
        return 0
    frame = pl.DataFrame({"group": narrow.groups.codes, "model": narrow.model})
    models = frame.group_by("group").agg(pl.col("model").n_unique())
    return int((models["model"] > 1).sum())


def sections(
    names: Names, narrow: ReportRows, facts: Facts, found: GroupStats, texts: TextFacts | None
) -> list[Section]:
    """Return the sections that are about the whole of the data set."""
    return [
        Section("groups", "Groups", about_groups(facts)),
        Section("signal", "Signal", about_signal(facts)),
        Section("rewards", "Rewards", about_rewards(facts)),
        _draws(narrow, facts),
        _models(names, narrow, facts, found),
        *_per(narrow, facts, found),
        _completions(names, texts),
    ]


def graded_section(source: Source, groups: Groups) -> list[Section]:
    """Return the section about what graded the rows, if they have grades."""
    found = about_grader(source, groups)
    return [] if found is None else [Section("grader", "Grader", notes=found[0], tables=found[1])]


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


def _models(names: Names, narrow: ReportRows, facts: Facts, found: GroupStats) -> Section:
    title = "Models"
    if narrow.model is None or names.model is None:
        return Section("models", title, notes=[f"Left out: {names.missing['model']}."])
    labels = Labels(narrow.model, narrow.models)
    notes, tables = _tables(names.model, labels, narrow, facts, found)
    compared = standings(narrow, found)
    if not compared:
        left = f"No plot: no group compares two values of {cut(names.model)}."
        return Section("models", title, notes=[left, *notes], tables=tables)
    return Section("models", title, about_models(compared), notes, tables)


def _per(narrow: ReportRows, facts: Facts, found: GroupStats) -> list[Section]:
    made = []
    for index, (column, labels) in enumerate(narrow.per.items()):
        notes, tables = _tables(column, labels, narrow, facts, found)
        made.append(Section(f"per-{index}", f"By {cut(column)}", notes=notes, tables=tables))
    return made


def _tables(
    column: str, labels: Labels, narrow: ReportRows, facts: Facts, found: GroupStats
) -> tuple[list[str], list[tuple[str, Table]]]:
    parts = breakdown(labels, narrow, found, facts.threshold)
    left = len(parts) - ROWS
    notes = [f"{left:,} more values of {cut(column)}, with fewer rollouts, are left out."]
    return notes if left > 0 else [], [(f"Each {cut(column)}", by_value(parts, column))]


def _completions(names: Names, texts: TextFacts | None) -> Section:
    title = "Completions"
    if names.completion is None:
        return Section("completions", title, notes=[f"Left out: {names.missing['completion']}."])
    if texts is None:
        note = f"Left out: the column {cut(names.completion)} holds no text."
        return Section("completions", title, notes=[note])
    figures = [
        about_lengths(texts.lengths),
        about_length(texts.effect),
        about_copies(texts.copies),
        about_noise(texts.noise),
    ]
    notes = []
    if 0 < texts.noise.n_repeats < ENOUGH and not np.isfinite(texts.noise.deviation):
        notes = [f"The grader's noise is not estimated: {texts.noise.n_repeats} repeats are few."]
    return Section("completions", title, [one for one in figures if one is not None], notes)
