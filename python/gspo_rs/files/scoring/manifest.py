"""The manifest of an output: its inputs, options, files and their digests."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from gspo_rs._core import __version__, file_digest, noted_footer
from gspo_rs.data.outputs import (
    MANIFEST,
    OLD_MANIFEST,
    first_partition,
    manifest_file,
    manifest_in,
)
from gspo_rs.files.digested_json import blank, sealed, unseal
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


# What Parquet files begin with.
MAGIC = b"PAR1"


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
    """One output: its name below the folder, its rows, its size in bytes and XXH3 (128 bits).

    Of an output that is a single file, size and digest are of what stands before its footer, which
    has a digest of its own.
    """

    name: str
    rows: int
    size: int
    digest: str

    def place(self, output: Path) -> Path:
        """Return where the file is, given where the output is now."""
        return output if output.is_file() else output / self.name

    def damage(self, output: Path) -> str | None:
        """Say what is wrong with the file, from its bytes: at about a gigabyte a second."""
        path = self.place(output)
        if not path.is_file():
            return "is missing"
        size = _footer_start(path) if path == output else path.stat().st_size
        if size != self.size:
            return f"has changed: {size} bytes instead of {self.size}"
        digest = file_digest(path, size)
        return None if digest == self.digest else "has changed: its digest differs"


@dataclass(frozen=True)
class Manifest:
    """What was made of what, and of which bytes it consists.

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

    def write(self, new: Path) -> None:
        """Write it with an output: beside the files of a folder, or into the footer of a file.

        It ends with a digest of all bytes that it is written with.
        """
        if new.is_file():
            start = _footer_start(new)
            entry = replace(self.outputs[0], size=start, digest=file_digest(new, start))
            text = blank(asdict(replace(self, outputs=[entry])))
            footer = sealed(noted_footer(new, text, rows=True))
            with new.open("r+b") as file:
                file.truncate(start)
                file.seek(start)
                file.write(footer)
        else:
            footer = noted_footer(new / self.outputs[0].name, blank(asdict(self)), rows=False)
            (first_partition(new) / MANIFEST).write_bytes(sealed(MAGIC + footer))


def load(output: Path) -> Manifest:
    """Read the manifest of an output.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If it is no manifest.
    """
    path = manifest_file(output)
    if path is None:
        raise FileNotFoundError(f"{output} has no manifest; it is no output of `gspo-rs score`")
    try:
        with path.open("rb") as file:
            file.seek(_footer_start(path) if path == output else 0)
            whole = file.read()
        old = path.name == OLD_MANIFEST
        given = unseal(whole.decode("utf-8") if old else manifest_in(output) or "", whole)
        given["inputs"] = [InputEntry(**entry) for entry in given["inputs"]]
        given["outputs"] = [OutputEntry(**entry) for entry in given["outputs"]]
        return Manifest(**given)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{path} has no manifest of `gspo-rs score` that can be read: {error}; score again"
        ) from error


def _footer_start(file: Path) -> int:
    """Return where the footer of a Parquet file begins; of any other file, some place in it."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        opened.seek(max(size - 8, 0))
        length = int.from_bytes(opened.read(4), "little")
    return max(size - 8 - length, 0)


@dataclass(frozen=True)
class Report:
    """The result of a scoring run.

    Attributes
    ----------
    output : Path
        The folder or file that was written.
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
        files=len(manifest.inputs),
        skipped=outcome.skipped if outcome else len(manifest.outputs),
        spilled=outcome is not None and outcome.spilled,
        by_file=outcome is not None and outcome.by_file,
        by=tuple(manifest.options["by"]),
        reward=manifest.options["reward"],
        exploded=tuple(manifest.options.get("exploded", ())),
    )
