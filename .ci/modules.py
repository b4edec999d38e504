"""Modules of one language: their files, lines of code and imports."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

# When an import runs; those for types alone never do.
LOADING, LATER, TYPES = KINDS = ("", "in a function", "for types alone")

Name = tuple[str, ...]  # of a module, from the package or crate down; the top is ()


class Import(NamedTuple):
    """One module's import of another, and where it is."""

    source: Name
    target: Name
    kind: str
    line: int


@dataclass
class Modules:
    """All modules below a folder, by name."""

    folder: Path
    files: dict[Name, Path]
    lines: dict[Name, int] = field(default_factory=dict)
    imports: list[Import] = field(default_factory=list)


def find(folder: Path, suffix: str, tops: tuple[str, ...]) -> dict[Name, Path]:
    """Every module below a folder; a file called as in `tops` is the module of its folder."""
    found = {}
    for path in sorted(folder.rglob(f"*{suffix}")):
        parts = path.relative_to(folder).with_suffix("").parts
        found[parts[:-1] if parts[-1] in tops else parts] = path
    return found
