"""Data sets of the Hugging Face hub: by name, and in the folders that its cache makes."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["hub_files", "is_hub_name", "of_split", "snapshot_of", "split_of"]

_log = logging.getLogger("gspo_rs")

NAME = re.compile(r"(?:hf://datasets/)?([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)/?")
SHARD = re.compile(r"(.+?)-\d{5}-of-\d{5}(?:-[0-9a-f]+)?")
# Words that the hub takes for the name of a split, and what it calls them.
SPLITS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}


def is_hub_name(path: str, suffixes: Sequence[str]) -> bool:
    """Tell whether a path that is not there may be the name of a data set of the hub.

    Examples
    --------
    >>> is_hub_name("openai/gsm8k", [".parquet"]), is_hub_name("runs/gone.parquet", [".parquet"])
    (True, False)
    """
    if not NAME.fullmatch(path) or path.lower().endswith(tuple(suffixes)):
        return False
    return path.startswith("hf://") or not Path(path).parent.is_dir()


def hub_files(name: str, split: str | None) -> tuple[list[str], Any]:
    """Load a data set of the hub into the cache of `datasets`, or find it there.

    Parameters
    ----------
    name : str
        ``org/name``.
    split : str or None
        Which part; may be None if there is only one.

    Returns
    -------
    files : list of str
        Those of the cache, in the order of their rows.
    dataset : datasets.Dataset

    Raises
    ------
    FileNotFoundError
        If there is neither such a path nor, as far as can be said here, such a data set; or if
        `datasets` is not installed, which could say.
    ValueError
        If there are several splits and none is named, or not this one, or several configurations.
    """
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise FileNotFoundError(
            f"no such file: {name}; to read the data set of this name from the hub: "
            "pip install 'gspo_rs[datasets]'"
        ) from error
    found = NAME.fullmatch(name)
    assert found is not None
    _log.info("there is no file %s; looking for the data set of this name on the hub", name)
    try:
        loaded = datasets.load_dataset(found[1])
    except ValueError as error:
        # Several configurations, of which it lists the names.
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{name}: {reason}; load it in Python with datasets.load_dataset, and give that"
        ) from error
    except (OSError, RuntimeError) as error:
        # Of the network, of the hub, and of a name that it does not have.
        reason = str(error).strip().partition("\n")[0]
        raise FileNotFoundError(
            f"no such file: {name}; and no data set of the hub: {reason}"
        ) from error
    dataset = loaded[refuse_other(name, list(loaded), split)]
    return [entry["filename"] for entry in dataset.cache_files], dataset


def refuse_other(name: str, splits: Sequence[str], split: str | None) -> str:
    """Return the split that is named, or the only one.

    Raises
    ------
    ValueError
        If it is not there, or none is named and there are several.

    Examples
    --------
    >>> refuse_other("org/name", ["train", "test"], "test")
    'test'
    """
    there = f"{name} holds the splits {', '.join(splits)}"
    if split is None and len(splits) == 1:
        return splits[0]
    if split is None:
        raise ValueError(f"{there}; name one with --split (split={splits[0]!r})")
    if split not in splits:
        raise ValueError(f"{there}, and none is called {split!r}")
    return split


def snapshot_of(folder: Path) -> Path | None:
    """Return the folder of the files that a folder of the hub's cache stands for.

    Raises
    ------
    FileNotFoundError
        If nothing was downloaded into it.
    ValueError
        If it has several versions, and does not say which is the current one.

    Examples
    --------
    >>> snapshot_of(Path()) is None
    True
    """
    if not (folder / "snapshots").is_dir() or not (folder / "blobs").is_dir():
        return None
    main = folder / "refs" / "main"
    if main.is_file():
        found = folder / "snapshots" / main.read_text(encoding="utf-8").strip()
        if found.is_dir():
            return found
        raise FileNotFoundError(f"{folder} has no files of its version {found.name}; load it anew")
    versions = sorted((folder / "snapshots").iterdir())
    if len(versions) != 1:
        names = ", ".join(version.name for version in versions) or "none"
        raise ValueError(f"{folder} has the versions {names}; give one of {folder}/snapshots/…")
    return versions[0]


def split_of(file: str, folder: Path) -> str:
    """Return the name of the split that a file below a folder is of, as the hub reads names.

    Examples
    --------
    >>> split_of("d/data/train-00000-of-00002.parquet", Path("d"))
    'train'
    >>> split_of("d/main/dev.jsonl", Path("d")), split_of("d/test/part.csv", Path("d"))
    ('validation', 'test')
    >>> split_of("d/rows.parquet", Path("d"))
    'train'
    """
    parts = Path(file).relative_to(folder).parts
    stem = parts[-1].split(".")[0]
    if shard := SHARD.fullmatch(stem):
        return SPLITS.get(shard[1], shard[1])
    for part in (stem, *reversed(parts[:-1])):
        for word in re.split(r"[^A-Za-z]+", part.lower()):
            if word in SPLITS:
                return SPLITS[word]
    return "train"


def of_split(files: Sequence[str], folder: Path, split: str | None) -> list[str]:
    """Return the files of one split below a folder.

    Raises
    ------
    ValueError
        If there are several splits and none is named, or not this one.
    """
    splits = [split_of(file, folder) for file in files]
    wanted = refuse_other(str(folder), list(dict.fromkeys(splits)), split)
    return [file for file, name in zip(files, splits, strict=True) if name == wanted]
