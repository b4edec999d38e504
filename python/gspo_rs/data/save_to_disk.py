"""Folders saved by `save_to_disk` of `datasets`, and which of their files hold the rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["saved_files"]

STATE = "state.json"
SPLITS = "dataset_dict.json"


def saved_files(folder: Path, split: str | None = None) -> list[str] | None:
    """List the files of a saved data set in their order, or None for any other folder.

    Parameters
    ----------
    folder : Path
    split : str, optional
        Which one of several splits.

    Raises
    ------
    ValueError
        If the folder holds several splits (names them) and none is named, or not this one; or
        rows that were chosen or put in another order without being written so.
    FileNotFoundError
        If one of the files is missing.

    Examples
    --------
    >>> saved_files(Path()) is None
    True
    """
    if (folder / SPLITS).is_file():
        return _files_of_splits(folder, split)
    if not (folder / STATE).is_file():
        return None
    state = _read(folder / STATE)
    if not isinstance(state, dict) or "_data_files" not in state:
        return None  # another program's
    if split is not None:
        raise ValueError(f"{folder} is a saved data set without splits; leave out split={split!r}")
    for key in ("_indices_data_files", "_indices_files"):
        if state.get(key):
            raise ValueError(
                f"{folder} holds rows in an order that is kept beside them; save it anew with "
                "dataset.flatten_indices().save_to_disk(…)"
            )
    files = [folder / entry["filename"] for entry in state["_data_files"]]
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"no such file: {file}, which {folder / STATE} names")
    if not files:
        raise ValueError(f"{folder} is a saved data set without rows")
    return [str(file) for file in files]


def _files_of_splits(folder: Path, split: str | None) -> list[str]:
    splits = _read(folder / SPLITS).get("splits", [])
    there = f"{folder} holds the splits {', '.join(splits)}"
    if split is None and len(splits) != 1:
        paths = " or ".join(str(folder / name) for name in splits)
        raise ValueError(f"{there}; give {paths}, or name one with --split (split=…)")
    if split is not None and split not in splits:
        raise ValueError(f"{there}, and none is called {split!r}")
    chosen = folder / (split or splits[0])
    files = saved_files(chosen)
    if files is None:
        raise FileNotFoundError(f"{chosen} is no saved data set; it has no {STATE}")
    return files


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
