"""The manifest of an output: its inputs, options, files and their digests."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gspo_rs._core import __version__, file_digest
from gspo_rs.data.written import MANIFEST
from gspo_rs.files.digested_json import seal, unseal
from gspo_rs.files.notebook import facts_html
from gspo_rs.files.scoring.first_pass import Read, Tally
from gspo_rs.files.scoring.inputs import Input
from gspo_rs.files.scoring.options import Options

__all__ = [
    "InputEntry",
    "Manifest",
    "Outcome",
    "OutputEntry",
    "Report",
    "load",
    "manifest_of",
    "report_of",
]


@dataclass(frozen=True)
class InputEntry:
    """One input: where it was, and what tells whether it is still the same.

    `digest` is XXH3 (64 bits) over the ids and rewards of its rows, in order.
    """

    path: str | None
    size: int | None
    mtime_ns: int | None
    rows: int
    digest: str


@dataclass(frozen=True)
class OutputEntry:
    """One output: its name below the folder, its rows, its size in bytes and XXH3 (128 bits)."""

    name: str
    rows: int
    size: int
    digest: str

    def damage(self, folder: Path) -> str | None:
        """Say what is wrong with the file, from its bytes: at about a gigabyte a second."""
        path = folder / self.name
        if not path.is_file():
            return "is missing"
        if (size := path.stat().st_size) != self.size:
            return f"has changed: {size} bytes instead of {self.size}"
        return None if file_digest(path) == self.digest else "has changed: its digest differs"


@dataclass(frozen=True)
class Manifest:
    """The whole of ``manifest.json``.

    `dropped` has the number of rows that each rule of ``keep`` left out.
    """

    options: dict[str, Any]
    inputs: list[InputEntry]
    outputs: list[OutputEntry]
    rows: int
    kept: int
    groups: int
    uninformative: int
    dropped: dict[str, int] = field(default_factory=dict)
    version: str = __version__

    def text(self) -> str:
        """Return it as JSON that ends with a digest of all its bytes."""
        return seal(asdict(self), indent=1)


def load(folder: Path) -> Manifest:
    """Read the manifest of an output.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If it is no manifest.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no {MANIFEST}; it is no output of `gspo-rs score`")
    try:
        given = unseal(path.read_bytes().decode("utf-8"))
        given["inputs"] = [InputEntry(**entry) for entry in given["inputs"]]
        given["outputs"] = [OutputEntry(**entry) for entry in given["outputs"]]
        return Manifest(**given)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{path} is no manifest of `gspo-rs score`: {error}; score again"
        ) from error


@dataclass(frozen=True)
class Report:
    """The result of a scoring run.

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
    by : tuple of str
        The columns that name the group of a row in the output.
    reward : str
        The column of the rewards.
    exploded : tuple of str
        The columns whose lists were read as one value for each completion; of files with one row
        per completion none.
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
    by: tuple[str, ...] = ()
    reward: str = "reward"
    exploded: tuple[str, ...] = ()

    def _repr_html_(self) -> str:
        return facts_html("scored", vars(self))


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
    """Build the manifest from the options and the outcome."""
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
        by=tuple(manifest.options["by"]),
        reward=manifest.options["reward"],
        exploded=tuple(manifest.options.get("exploded", ())),
    )
