"""A folder that grows by whole parts, with a ledger of them: what takes long can be taken up again.

A part is written aside and to the disk, then gets its name, then a line in the ledger. So a part
is there once or not at all, whenever the process is killed, and one without a line counts for
nothing. A run that is to replace another one grows beside it, and takes its place when it is whole.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from gspo_rs._core import __version__, file_digest
from gspo_rs.data.full_disk import naming
from gspo_rs.data.ledgers import LEDGER, MANIFEST, is_of_parts
from gspo_rs.files import atomic
from gspo_rs.files.beside import beside, refuse_planted
from gspo_rs.files.digested_json import seal, unseal
from gspo_rs.files.journal import Journal
from gspo_rs.files.lock import locked
from gspo_rs.files.temporary import aside, is_aside
from gspo_rs.files.writer import writing

__all__ = [
    "PartEntry",
    "Parts",
    "RunManifest",
    "ledger_of",
    "part_name",
    "parts_in",
    "run_manifest",
    "unfinished",
]

_PART = re.compile(r"part-\d{6,}\.parquet")


@dataclass(frozen=True)
class PartEntry:
    """One part: its rows, size in bytes and XXH3 (128 bits), and what else was noted of it."""

    name: str
    rows: int
    size: int
    digest: str
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RunManifest:
    """What a folder of parts is made of.

    Attributes
    ----------
    made_by : str
        The command, such as ``gspo-rs grade``.
    asked : dict
        What a run that takes it up again must ask for as well: options, and under ``inputs`` the
        inputs with their digests.
    noted : dict
        What else is to be known of the last run, such as the versions of libraries.
    counts : dict
        Of a whole run; empty before its end.
    complete : bool
        Whether all parts are there.
    """

    made_by: str
    asked: dict[str, Any]
    noted: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, Any] = field(default_factory=dict)
    complete: bool = False
    version: str = __version__


class Parts:
    """The folder while a run writes it; see `parts_in`.

    Attributes
    ----------
    folder : Path
        Where the parts are in the end.
    done : dict of str to PartEntry
        The parts that are there, in the order of the ledger.
    manifest : RunManifest
        Complete if there is nothing left to do.
    """

    def __init__(self, folder: Path, place: Path, manifest: RunManifest, private: Path) -> None:
        self.folder, self._place, self.manifest = folder, place, manifest
        self._private, self._ledger = private, Journal(place / LEDGER)
        self.done: dict[str, PartEntry] = {}

    def write(
        self, name: str, frame: pl.DataFrame, facts: Mapping[str, Any] | None = None
    ) -> PartEntry:
        """Write one part, durably, and its line in the ledger.

        Parameters
        ----------
        name : str
            As `part_name` makes it, of a part that is not done.
        frame : DataFrame
        facts : mapping, optional
            JSON values for the ledger.

        Raises
        ------
        OSError
            If it cannot be written; the parts before stay.
        """
        if not _PART.fullmatch(name) or name in self.done:
            raise ValueError(f"{name!r} is no name of a part, or of one that is done")
        new, target = self._private / name, self._place / name
        with naming(self.folder), writing(target):
            frame.write_parquet(new)
            atomic.sync(new)
            size, digest = new.stat().st_size, file_digest(new)
            new.rename(target)
            atomic.sync(self._place)
            entry = PartEntry(name, frame.height, size, digest, dict(facts or {}))
            self._ledger.append(part=asdict(entry))
        self.done[name] = entry
        return entry

    def complete(self, counts: Mapping[str, Any]) -> None:
        """Note that all parts are there, and what was counted."""
        self._put(replace(self.manifest, counts=dict(counts), complete=True))

    def take_up(self, asked: RunManifest, *, resume: bool, afresh: bool) -> None:
        """Find what a run before has left; raise if it is another one's, or has changed."""
        lines = [] if afresh else self._ledger.read(whole=True)
        entries = [PartEntry(**line["part"]) for line in lines]
        if entries and not resume:
            raise FileExistsError(
                f"{self.folder} holds {len(entries)} parts of a run; go on with it (resume), or"
                " start over with --overwrite (overwrite=True)"
            )
        if entries:
            _refuse_change(self.folder, self.manifest.asked, asked.asked)
            for entry in entries:
                _refuse_damage(self._place, entry)
        else:
            self._ledger.begin()
        self.done = {entry.name: entry for entry in entries}
        for path in _named_parts(self._place):
            if path.name not in self.done:
                path.unlink()
        if not (entries and self.manifest.complete):
            self._put(asked)

    def _put(self, manifest: RunManifest) -> None:
        with naming(self.folder):
            atomic.write_text(self._place / MANIFEST, seal(asdict(manifest)))
        self.manifest = manifest


@contextmanager
def parts_in(
    target: Path,
    asked: Mapping[str, Any],
    *,
    made_by: str,
    noted: Mapping[str, Any] | None = None,
    resume: bool = True,
    overwrite: bool = False,
) -> Iterator[Parts]:
    """Open a folder for parts: a new one, or what a run has left that was stopped or killed.

    Parameters
    ----------
    target : Path
        The folder; made if absent.
    asked : mapping
        JSON values. What an unfinished run was asked for must be the same; of its ``inputs``, a
        list of mappings, the times may be others.
    made_by : str
        The command.
    noted : mapping, optional
        JSON values that may differ from those of the run before.
    resume : bool
        Whether to go on with what is there; otherwise that is an error.
    overwrite : bool
        Whether to start over, whatever run is there. Its parts stay until all of the new ones are
        written, in a hidden folder beside `target`, which then takes its place in one step. If that
        is killed, the same call goes on with it.

    Yields
    ------
    Parts

    Raises
    ------
    FileExistsError
        If there are parts, and neither `resume` nor `overwrite`.
    ValueError
        If the folder holds anything else, or the run there was asked for something else (names
        it), or one of its parts has changed.
    LockedError
        If another process writes there.
    OSError
        If the folder cannot be written in, or, of one to overwrite, not be replaced.

    Examples
    --------
    >>> import tempfile
    >>> frame = pl.DataFrame({"reward": [1.0]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for _ in range(2):
    ...         with parts_in(Path(folder) / "out", {"n": 1}, made_by="gspo-rs grade") as parts:
    ...             print(list(parts.done))
    ...             if not parts.done:
    ...                 _ = parts.write(part_name(0), frame)
    []
    ['part-000000.parquet']
    """
    target = atomic.resolved(target)
    wanted = RunManifest(made_by, dict(asked), dict(noted or {}))
    _refuse_foreign(target, made_by)
    _refuse_unwritable(target)
    with naming(target), locked(target / LEDGER, target):
        before = _refuse_foreign(target, made_by)
        if overwrite and before and (target / LEDGER).stat().st_size:
            with _replacing(target, before, wanted, resume=resume) as parts:
                yield parts
            return
        with aside(target) as private:
            parts = Parts(target, target, before or wanted, private)
            parts.take_up(wanted, resume=resume, afresh=overwrite)
            yield parts


@contextmanager
def _replacing(
    target: Path, before: RunManifest, wanted: RunManifest, *, resume: bool
) -> Iterator[Parts]:
    """Open the folder beside a target that takes its place once its run is whole."""
    atomic.refuse_unreplaceable(target)
    place = beside(target, ".parts")
    place.mkdir(mode=0o700, exist_ok=True)
    refuse_planted(place)
    with locked(place / LEDGER, target):
        staged = _refuse_foreign(place, wanted.made_by)
        # Killed between the exchange and its end, it left what was replaced.
        old = staged is not None and staged.complete and staged.asked == before.asked
        afresh = old or not resume or staged is None or bool(_change(staged.asked, wanted.asked))
        with aside(place) as private:
            parts = Parts(target, place, staged or wanted, private)
            parts.take_up(wanted, resume=True, afresh=afresh)
            yield parts
        if parts.manifest.complete:
            atomic.put_directory(place, target, overwrite=True)
            atomic.remove(place)


def part_name(number: int) -> str:
    """Return the name of a part by its number.

    Examples
    --------
    >>> part_name(7)
    'part-000007.parquet'
    """
    return f"part-{number:06}.parquet"


def run_manifest(folder: Path) -> RunManifest:
    """Read what a folder of parts is made of.

    Raises
    ------
    FileNotFoundError
        If there is no such manifest.
    ValueError
        If it was damaged or edited.
    """
    path = folder / MANIFEST
    if not path.is_file() or not (folder / LEDGER).is_file():
        raise FileNotFoundError(
            f"{folder} has no {MANIFEST} and {LEDGER}; it is no folder of parts"
        )
    try:
        return RunManifest(**unseal(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} cannot be read as the manifest of a run: {error}") from error


def unfinished(target: Path) -> bool:
    """Return whether a run has begun to write a folder, or what is to replace it, and not ended.

    Raises
    ------
    ValueError
        If its manifest was damaged or edited.
    """
    target = atomic.resolved(target)
    places = (target, beside(target, ".parts"))
    return any(not run_manifest(one).complete for one in places if is_of_parts(one / LEDGER))


def ledger_of(folder: Path) -> list[PartEntry]:
    """Read the ledger of a folder whose run is over.

    Raises
    ------
    ValueError
        If a line was damaged, edited or cut off.
    """
    lines = Journal(folder / LEDGER).read(whole=True, cut=False)
    return [PartEntry(**line["part"]) for line in lines]


def _refuse_foreign(target: Path, made_by: str) -> RunManifest | None:
    """Raise if a folder holds anything but a run of one kind; return the manifest of that."""
    if not target.exists():
        return None
    if not target.is_dir():
        raise NotADirectoryError(f"{target} is a file; name a folder")
    names = sorted(path.name for path in target.iterdir() if not is_aside(path.name))
    # Killed before there was a manifest.
    if not names or (names == [LEDGER] and not (target / LEDGER).stat().st_size):
        return None
    ours = {name for name in names if name in (LEDGER, MANIFEST) or _PART.fullmatch(name)}
    foreign = [name for name in names if name not in ours]
    if foreign or not {LEDGER, MANIFEST} <= ours:
        raise ValueError(
            f"{target} holds files that `{made_by}` has not written, such as"
            f" {(foreign or names)[0]}; choose an empty folder"
        )
    before = run_manifest(target)
    if before.made_by != made_by:
        raise ValueError(f"{target} holds what `{before.made_by}` made; choose another folder")
    return before


def _refuse_unwritable(target: Path) -> None:
    folder = next(path for path in (target, *target.parents) if path.exists())
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is no folder, so {target} cannot be in it")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"{folder} is read-only, or another user's; choose another folder")


def _refuse_change(folder: Path, before: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    if change := _change(before, asked):
        raise ValueError(
            f"{folder} holds a run that asked for something else: {change}; ask for the same,"
            " choose another folder, or start over with --overwrite (overwrite=True)"
        )


def _change(before: Mapping[str, Any], asked: Mapping[str, Any]) -> str | None:
    """Say what is first asked for that was not so before; None if all is the same."""
    for name in dict.fromkeys([*before, *asked]):
        old, new = before.get(name), asked.get(name)
        if name == "inputs" and old is not None and new is not None:
            change = _changed_input(old, new)
        else:
            change = f"{name} was {_short(old)}, is {_short(new)}" if old != new else None
        if change:
            return change
    return None


def _changed_input(before: list[dict[str, Any]], now: list[dict[str, Any]]) -> str | None:
    """Say which input is another one; the times of files may differ."""
    for old, new in zip(before, now, strict=False):
        for name in dict.fromkeys([*old, *new]):
            if name != "mtime_ns" and old.get(name) != new.get(name):
                place = f"input {old.get('path')}"
                return f"{place}, whose {name} was {old.get(name)!r}, is {new.get(name)!r}"
    same = len(before) == len(now)
    return None if same else f"the number of inputs was {len(before)}, is {len(now)}"


def _short(value: Any, most: int = 120) -> str:
    text = repr(value)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _refuse_damage(folder: Path, entry: PartEntry) -> None:
    path = folder / entry.name
    problem = None
    if not path.is_file():
        problem = "is missing"
    elif path.stat().st_size != entry.size or file_digest(path) != entry.digest:
        problem = "has changed since it was written"
    if problem:
        raise ValueError(
            f"{path} {problem}; put it back, or start over with --overwrite (overwrite=True)"
        )


def _named_parts(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if _PART.fullmatch(path.name)]
