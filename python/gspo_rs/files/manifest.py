"""What an output says of itself: how it was made, from what, and the digest of every file."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from gspo_rs._core import __version__

__all__ = ["NAME", "InputEntry", "Manifest", "OutputEntry", "load"]

NAME: Final = "manifest.json"
# What stands for the digest while it is computed.
BLANK: Final = "0" * 64


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
        text = json.dumps(asdict(self) | {"digest": BLANK}, indent=1) + "\n"
        return text.replace(BLANK, _digest(text))


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
        text = path.read_bytes().decode("utf-8")
        given = json.loads(text)
        digest = given.pop("digest")
        if not isinstance(digest, str) or _digest(text.replace(digest, BLANK)) != digest:
            raise ValueError("its digest is another one; it was damaged or edited, so score again")
        given["inputs"] = [InputEntry(**entry) for entry in given["inputs"]]
        given["outputs"] = [OutputEntry(**entry) for entry in given["outputs"]]
        return Manifest(**given)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is no manifest of `gspo-rs score`: {error}") from error


def _digest(text: str) -> str:
    """Return the SHA-256 of a manifest whose own digest is blank."""
    return hashlib.sha256(text.encode()).hexdigest()
