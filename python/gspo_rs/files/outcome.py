"""What a run of scoring has found and written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gspo_rs.files.inputs import Input
from gspo_rs.files.manifest import InputEntry, Manifest, OutputEntry
from gspo_rs.files.narrow import Read, Tally
from gspo_rs.files.options import Options

__all__ = ["Outcome", "Report", "manifest_of", "report_of"]


@dataclass(frozen=True)
class Report:
    """What a run of scoring did.

    Attributes
    ----------
    output : Path
        The folder that was written.
    rows, kept, groups, uninformative : int
        Rows read and written; groups, and those whose rewards are all equal.
    dropped : dict of str to int
        Rows that each rule of `keep` left out.
    files, skipped : int
        Files of the output, and how many of them were whole from a run before.
    spilled : bool
        Whether ids and scores went through the disk.
    by_file : bool
        Whether each file was scored by itself in one pass, since no group lies in two of them.
    """

    output: Path
    rows: int
    kept: int
    groups: int
    uninformative: int
    dropped: dict[str, int]
    files: int
    skipped: int
    spilled: bool
    by_file: bool


@dataclass(frozen=True)
class Outcome:
    """What was read and written, one entry per file, and what was counted."""

    seen: list[Read]
    outputs: list[OutputEntry]
    tally: Tally
    skipped: int
    spilled: bool
    by_file: bool


def manifest_of(asked: Options, inputs: list[Input], outcome: Outcome) -> Manifest:
    """Put down what was asked, and what came of it."""
    entries = [
        InputEntry(
            given.place,
            given.stamp.size if given.stamp else None,
            given.stamp.mtime_ns if given.stamp else None,
            known.rows,
            known.digest,
        )
        for given, known in zip(inputs, outcome.seen, strict=True)
    ]
    return Manifest(
        options=asked.recorded(),
        inputs=entries,
        outputs=outcome.outputs,
        rows=sum(known.rows for known in outcome.seen),
        kept=outcome.tally.kept,
        groups=outcome.tally.groups,
        uninformative=outcome.tally.uninformative,
        dropped=outcome.tally.dropped,
    )


def report_of(folder: Path, manifest: Manifest, outcome: Outcome | None) -> Report:
    """Tell what a run did; without an outcome, everything was done before."""
    return Report(
        output=folder,
        rows=manifest.rows,
        kept=manifest.kept,
        groups=manifest.groups,
        uninformative=manifest.uninformative,
        dropped=manifest.dropped,
        files=len(manifest.outputs),
        skipped=outcome.skipped if outcome else len(manifest.outputs),
        spilled=outcome is not None and outcome.spilled,
        by_file=outcome is not None and outcome.by_file,
    )
