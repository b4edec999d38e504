"""Models that give rewards, as transformers saves them: loaded, digested, fed in fixed shapes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gspo_rs.rewards.errors import RewardError

__all__ = [
    "batches_of",
    "configuration",
    "digest_of_folder",
    "filled",
    "loaded_model",
    "loaded_tokenizer",
    "longest_of",
    "tokens_of",
]

SHORTEST = 32


def loaded_tokenizer(folder: Path, what: str) -> Any:
    """Return the tokenizer of a folder; `what` is in it, for errors.

    Raises
    ------
    RewardError
        If it is no folder of a model, or transformers is not installed.
    """
    return _read("AutoTokenizer", folder, what)


def configuration(folder: Path, what: str) -> Any:
    """Return the configuration of a model, without its weights; raises as `loaded_tokenizer`."""
    return _read("AutoConfig", folder, what)


def loaded_model(
    kind: str, folder: Path, what: str, *, device: str, dtype: str, unused: tuple[str, ...] = ()
) -> Any:
    """Return the model of a folder, by a class of transformers such as ``AutoModel``.

    Parameters
    ----------
    kind : str
    folder : Path
    what : str
        What is in it, for errors.
    device, dtype : str
        ``dtype`` is ``float32``, ``bfloat16`` or ``float16``.
    unused : tuple of str
        Beginnings of the names of weights that may be missing, because nothing reads them.

    Raises
    ------
    RewardError
        If it cannot be loaded, or a weight is missing, which would be drawn at random.
    """
    if dtype not in ("float32", "bfloat16", "float16"):
        raise RewardError(f"dtype is {dtype!r}; use float32, bfloat16 or float16")
    import torch

    options = {"output_loading_info": True, "use_safetensors": True}
    model, loading = _read(kind, folder, what, dtype=getattr(torch, dtype), **options)
    if missing := sorted(one for one in loading["missing_keys"] if not one.startswith(unused)):
        raise RewardError(
            f"{folder} has no weights {missing[0]!r}, which would be drawn at random; it is a model"
            " of another kind"
        )
    return model.to(device).eval()


def _read(kind: str, folder: Path, what: str, **options: Any) -> Any:
    """Read a folder by a class of transformers, running no code of its own."""
    if not (folder / "config.json").is_file():
        raise RewardError(f"{folder} has no config.json; name the folder of {what}")
    try:
        import transformers
    except ImportError as error:
        raise RewardError(
            f"{what} needs transformers: pip install 'gspo_rs[train]' ({error})"
        ) from error
    given = {"trust_remote_code": False, "local_files_only": True, **options}
    try:
        return getattr(transformers, kind).from_pretrained(folder, **given)
    except (OSError, ValueError, KeyError) as error:
        raise RewardError(f"{folder} cannot be loaded as {what}: {error}") from error


def longest_of(config: Any) -> int:
    """Return how many tokens a model reads at most."""
    return int(getattr(config, "max_position_embeddings", None) or 1 << 30)


def tokens_of(device: str) -> int:
    """Return the tokens of a batch, padding among them.

    On a CPU a token costs the same in a small batch, and a few rows cost less.
    """
    return 1 << (10 if device == "cpu" else 13)


def batches_of(
    lengths: Sequence[int], longest: int, tokens: int
) -> Iterator[tuple[list[int], int, int]]:
    """Yield batches of rows that are padded to one length, the longest first.

    With each come that length and the number of rows that it is filled up to, which depend on
    nothing but the length of a row.

    Parameters
    ----------
    lengths : sequence of int
    longest : int
        Tokens that the model reads at most.
    tokens : int
        Of a batch.

    Examples
    --------
    >>> list(batches_of([40, 3, 64], 100, 256))
    [([0, 2], 64, 4), ([1], 32, 8)]
    """
    buckets: dict[int, list[int]] = {}
    for row, length in enumerate(lengths):
        padded = min(max(SHORTEST, 1 << (length - 1).bit_length()), longest)
        buckets.setdefault(padded, []).append(row)
    for length in sorted(buckets, reverse=True):  # what does not fit fails at once
        rows, size = buckets[length], max(tokens // length, 1)
        for start in range(0, len(rows), size):
            yield rows[start : start + size], length, size


def filled(ids: Sequence[Sequence[int]], length: int, size: int, pad: int) -> tuple[Any, Any]:
    """Return rows padded to a length and filled up with copies, and the mask, as tensors.

    Examples
    --------
    >>> [one.tolist() for one in filled([[5, 6]], 3, 2, 0)]
    [[[5, 6, 0], [5, 6, 0]], [[1, 1, 0], [1, 1, 0]]]
    """
    import torch

    rows = [*ids, *[ids[0]] * (size - len(ids))]
    padded = torch.tensor([[*row, *[pad] * (length - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows])
    return padded, mask


def digest_of_folder(folder: Path, *more: str) -> str:
    """Return the digest of all files of a model, and of what else decides about its scores."""
    found = hashlib.sha256(" ".join(more).encode())
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_relative_to(folder / ".git"):
            found.update(os.fsencode(path.relative_to(folder)))
            with open(path, "rb") as file:  # noqa: PTH123 -- `file_digest` wants the plain object
                found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()
