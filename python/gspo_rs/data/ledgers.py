"""Folders of parts with a ledger, as a source: their parts are read, once all are there.

`gspo_rs.files.parts` writes them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

__all__ = ["LEDGER", "MANIFEST", "is_of_parts", "refuse_unfinished"]

LEDGER: Final = "ledger.jsonl"
"""The file that has a line for each part."""

MANIFEST: Final = "manifest.json"
"""The file that says what the parts are made of, and whether all are there."""


def is_of_parts(path: Path) -> bool:
    """Tell whether a file is the ledger or the manifest of a folder of parts, and has no rows.

    Examples
    --------
    >>> is_of_parts(Path("/nowhere/ledger.jsonl"))
    False
    """
    return path.name in (LEDGER, MANIFEST) and all(
        path.with_name(name).is_file() for name in (LEDGER, MANIFEST)
    )


def refuse_unfinished(folders: Iterable[Path]) -> None:
    """Raise if a folder has parts of a run that is not over, whose rows would not be all.

    Raises
    ------
    ValueError
        Naming the folder and the command.
    """
    for folder in folders:
        if not is_of_parts(folder / LEDGER):
            continue
        try:
            made = json.loads((folder / MANIFEST).read_bytes())
            whole, made_by = made.get("complete", True), made.get("made_by")
        except (ValueError, AttributeError):
            continue  # another program's
        if not whole:
            raise ValueError(
                f"{folder} is an unfinished run of `{made_by}`, which has not all rows yet; run it"
                " to its end"
            )
