"""What an output says of itself: how it was made, from what, and the digest of every file."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from gspo_rs._core import __version__
from gspo_rs.sealed import seal, unseal

__all__ = ["NAME", "InputEntry", "Manifest", "OutputEntry", "load"]

NAME: Final = "manifest.json"


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
    path = folder / NAME
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no {NAME}; it is no output of `gspo-rs score`")
    try:
        given = unseal(path.read_bytes().decode("utf-8"))
        given["inputs"] = [InputEntry(**entry) for entry in given["inputs"]]
        given["outputs"] = [OutputEntry(**entry) for entry in given["outputs"]]
        return Manifest(**given)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{path} is no manifest of `gspo-rs score`: {error}; score again"
        ) from error
