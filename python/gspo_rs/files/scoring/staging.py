"""The staging folder of an output, next to its target until it replaces the target."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from gspo_rs.data.outputs import manifest_file
from gspo_rs.files import atomic
from gspo_rs.files.beside import beside, refuse_planted
from gspo_rs.files.journal import Journal
from gspo_rs.files.lock import locked
from gspo_rs.files.scoring.manifest import Manifest, OutputEntry, load

__all__ = ["AT_ONCE", "BY_FILE", "Staging", "check_target", "is_taken", "staged"]

# The ways to score: all ids and rewards before the first file is written, or file by file.
AT_ONCE: Final = "at once"
BY_FILE: Final = "by file"


class Staging:
    """The folder ``.NAME.gspo-rs`` beside a target: a lock, a journal, and the new output.

    The target is a folder, or a `single` file, which is in a folder here.

    The journal has one line for what was asked, one for each way that was gone, one for what the
    inputs hold, and one for each file that is done. Lines are numbered, and each ends with a
    digest; the first that a crash has cut off, or that was changed, and those after it count for
    nothing.
    """

    def __init__(self, target: Path, *, single: bool = False) -> None:
        self.target = target
        self.single = single
        self.folder = beside(target)
        self.new = self.folder / "new"
        self._journal = Journal(self.folder / "journal.jsonl")
        self._contents: dict[str, str] = {}
        self.way: str | None = None
        self.done: dict[str, OutputEntry] = {}
        self._overwrite = False

    @property
    def whole(self) -> Path:
        """Where the new output is whole once its manifest is written."""
        return self.new / self.target.name if self.single else self.new

    def refuse_taken(self, *, overwrite: bool) -> None:
        """Raise if the target holds an output, which is not what is asked for, and must stay.

        Raises
        ------
        FileExistsError
            Unless `overwrite`. An unfinished run can still be taken up.
        """
        self._overwrite = overwrite
        if overwrite or not is_taken(self.target):
            return
        if not self._journal.read():
            self.remove()
        self.refuse_other()

    def refuse_other(self) -> None:
        """Raise if there is something in the place of the target."""
        if is_taken(self.target):
            raise FileExistsError(
                f"{self.target} holds an output of other options or inputs, or one that has "
                "changed since, or something else; choose another name, or replace it with "
                "--overwrite (overwrite=True)"
            )

    def begin(self, asked: dict[str, Any], *, resume: bool) -> None:
        """Take up what a killed run has left, if it did what is asked, or start afresh.

        Raises
        ------
        ValueError
            If `resume`, and the run before was asked for something else; says what.
        """
        lines = self._journal.read()
        if not lines or not resume or manifest_file(self.whole):
            self._journal.begin()
            shutil.rmtree(self.new, ignore_errors=True)
            self.new.mkdir(parents=True)
            self._journal.append(asked=asked)
            return
        self._refuse_change(lines[0]["asked"], asked)
        for line in lines:
            self._take_up(line)
        written = self.done.items()
        self.done = {name: e for name, e in written if not e.damage(self.new)}

    def _take_up(self, line: dict[str, Any]) -> None:
        self._contents |= line.get("contents", {})
        if "way" in line:
            self.way, self.done = line["way"], {}
        if "done" in line:
            entry = OutputEntry(**line["done"])
            self.done[entry.name] = entry

    def go(self, way: str) -> None:
        """Note the way to score; what was written on another one counts for nothing."""
        if self.way != way:
            self.way, self.done = way, {}
            self._journal.append(way=way)

    def same_contents(self, digests: dict[str, str]) -> None:
        """Note what the inputs hold, or compare it with what was found before.

        Raises
        ------
        ValueError
            If ids or rewards have changed.
        """
        if any(self._contents.get(name, digest) != digest for name, digest in digests.items()):
            raise ValueError(self._refusal("the ids or rewards of the input"))
        if any(name not in self._contents for name in digests):
            self._contents |= digests
            self._journal.append(contents=digests)

    def finish_file(self, entry: OutputEntry, digest: str) -> None:
        """Note that one file of the new output is whole and on the disk, made of that digest."""
        self.done[entry.name] = entry
        self._journal.append(done=asdict(entry), contents={entry.name: digest})

    def commit(self, manifest: Manifest) -> None:
        """Replace the target by the new output atomically."""
        manifest.write(self.whole)
        put = atomic.put_file if self.single else atomic.put_directory
        put(self.whole, self.target, overwrite=self._overwrite)
        self.remove()

    def remove(self) -> None:
        """Remove the staging folder; the lock goes last."""
        shutil.rmtree(self.folder)

    def _refuse_change(self, before: dict[str, Any], asked: dict[str, Any]) -> None:
        for name, value in asked.items():
            if before.get(name) != value:
                if name == "inputs":
                    raise ValueError(self._refusal(_difference(before[name], value)))
                raise ValueError(self._refusal(f"{name} was {before.get(name)!r}, is {value!r};"))

    def _refusal(self, difference: str) -> str:
        return (
            f"an unfinished run for {self.target} cannot go on: {difference} changed since; "
            "start over with resume=False (--no-resume)"
        )


def _difference(before: list[dict[str, Any]], now: list[dict[str, Any]]) -> str:
    for old, new in zip(before, now, strict=False):
        if old != new:
            return f"input {new['path'] if old['path'] == new['path'] else old['path']}"
    return f"the number of inputs ({len(before)}, now {len(now)})"


@contextmanager
def staged(target: Path, *, single: bool) -> Iterator[Staging]:
    """Make the staging folder of `target` and lock it; see `Staging`.

    Yields
    ------
    Staging
        Kept after Ctrl-C and `kill -9`, to be taken up again.

    Raises
    ------
    ValueError
        If the target holds files that no manifest knows: they would be lost.
    OSError
        If the target could not be replaced.
    """
    place = Staging(target, single=single)
    check_target(target, single=single)
    place.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    refuse_planted(place.folder)
    with locked(place.folder / "lock", target):
        # What is half written is open to nobody, whatever the old output is open to.
        place.folder.chmod(0o700)
        yield place


def check_target(target: Path, *, single: bool) -> None:
    """Raise as `staged` where the target could not be replaced, or must not be."""
    if not single:
        _refuse_foreign(target)
    atomic.refuse_unreplaceable(target)


def is_taken(target: Path) -> bool:
    """Tell whether there is something in the place of a target."""
    return target.is_file() or (target.is_dir() and any(target.iterdir()))


def foreign_files(target: Path, manifest: Manifest) -> list[str]:
    """List what lies in an output and is not of it."""
    known = {target / entry.name for entry in manifest.outputs} | {manifest_file(target)}
    files = (path for path in sorted(target.rglob("*")) if not path.is_dir())
    return [str(path.relative_to(target)) for path in files if path not in known]


def _refuse_foreign(target: Path) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise NotADirectoryError(
            f"{target} is a file; name a folder, or for a single file of rows a .parquet file"
        )
    if not any(target.iterdir()):
        return
    problem = f"{target} holds files that `gspo-rs score` has not written"
    if manifest_file(target) is None:
        raise ValueError(f"{problem}; choose an empty folder")
    if foreign := foreign_files(target, load(target)):
        raise ValueError(f"{problem}, such as {foreign[0]}; move them away, they would be lost")
