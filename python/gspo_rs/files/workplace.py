"""Where an output is made: beside its target, until it is whole and takes the target's place."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from gspo_rs import atomic
from gspo_rs._core import exchange, file_digest
from gspo_rs.files.lock import locked
from gspo_rs.files.manifest import NAME, Manifest, OutputEntry, load

__all__ = ["AT_ONCE", "BY_FILE", "Workplace", "workplace"]

# The ways to score: all ids and rewards before the first file is written, or file by file.
AT_ONCE: Final = "at once"
BY_FILE: Final = "by file"


class Workplace:
    """The folder ``.NAME.gspo-rs`` beside a target: a lock, a journal, and the new output.

    The journal has one line for what was asked, one for each way that was gone, one for what the
    inputs hold, and one for each file that is done. A line that a crash has cut off counts for
    nothing.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.folder = target.parent / f".{target.name}.gspo-rs"
        self.new = self.folder / "new"
        self._journal = self.folder / "journal.jsonl"
        self._contents: dict[str, str] = {}
        self.way: str | None = None
        self.done: dict[str, OutputEntry] = {}

    def begin(self, asked: dict[str, Any], *, resume: bool) -> None:
        """Take up what a killed run has left, if it did what is asked, or start afresh.

        Raises
        ------
        ValueError
            If `resume`, and the run before was asked for something else; says what.
        """
        lines = self._lines()
        if not lines or not resume or (self.new / NAME).exists():
            shutil.rmtree(self.new, ignore_errors=True)
            self._journal.unlink(missing_ok=True)
            self.new.mkdir(parents=True)
            self._note(asked=asked)
            return
        self._refuse_change(lines[0]["asked"], asked)
        for line in lines:
            self._take_up(line)
        written = self.done.items()
        self.done = {name: e for name, e in written if _is_whole(self.new / name, e)}

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
            self._note(way=way)

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
            self._note(contents=digests)

    def finish_file(self, entry: OutputEntry, digest: str) -> None:
        """Note that one file of the new output is whole and on the disk, made of that digest."""
        self.done[entry.name] = entry
        self._note(done=asdict(entry), contents={entry.name: digest})

    def commit(self, manifest: Manifest) -> None:
        """Let the new output take the place of the target, at once."""
        (self.new / NAME).write_text(manifest.text(), encoding="utf-8")
        atomic.sync_tree(self.new)
        if self.target.exists():
            exchange(self.new, self.target)
        else:
            self.new.rename(self.target)
        atomic.sync(self.target.parent)
        self.remove()

    def remove(self) -> None:
        """Leave nothing behind; the lock goes last."""
        shutil.rmtree(self.folder)

    def _note(self, **facts: Any) -> None:
        with self._journal.open("a", encoding="utf-8") as file:
            file.write(json.dumps(facts) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _lines(self) -> list[dict[str, Any]]:
        if not self._journal.exists():
            return []
        text = self._journal.read_text(encoding="utf-8")
        return [json.loads(line) for line in text.split("\n")[:-1]]

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
def workplace(target: Path) -> Iterator[Workplace]:
    """Make the workplace of `target` and lock it.

    Yields
    ------
    Workplace
        Kept after Ctrl-C and `kill -9`, to be taken up again.

    Raises
    ------
    ValueError
        If the target holds files that no manifest knows: they would be lost.
    """
    place = Workplace(target)
    _refuse_foreign(target)
    with locked(place.folder / "lock", target):
        yield place


def is_done(manifest: Manifest, folder: Path) -> bool:
    """Tell whether every file of an output is as its manifest says."""
    return all(_is_whole(folder / entry.name, entry) for entry in manifest.outputs)


def foreign_files(target: Path, manifest: Manifest) -> list[str]:
    """List what lies in an output and is not of it."""
    known = {entry.name for entry in manifest.outputs} | {NAME}
    files = (path for path in sorted(target.rglob("*")) if not path.is_dir())
    return [name for path in files if (name := str(path.relative_to(target))) not in known]


def _refuse_foreign(target: Path) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise NotADirectoryError(f"{target} is a file; the output is a folder")
    if not any(target.iterdir()):
        return
    problem = f"{target} holds files that `gspo-rs score` has not written"
    if not (target / NAME).exists():
        raise ValueError(f"{problem}; choose an empty folder")
    if foreign := foreign_files(target, load(target)):
        raise ValueError(f"{problem}, such as {foreign[0]}; move them away, they would be lost")


def _is_whole(path: Path, entry: OutputEntry) -> bool:
    return (
        path.is_file() and path.stat().st_size == entry.size and file_digest(path) == entry.digest
    )
