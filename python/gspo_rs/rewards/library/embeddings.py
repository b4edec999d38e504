"""Completions compared with the right answer by an encoder of texts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gspo_rs.rewards.errors import RewardError
from gspo_rs.rewards.library.texts import said
from gspo_rs.rewards.model_folder import (
    batches_of,
    filled,
    loaded_model,
    loaded_tokenizer,
    longest_of,
)

__all__ = ["Encoder", "cosine", "embedding_cosine"]

_WHAT = "an encoder of texts"
_MODE = "pooling_mode_"


def embedding_cosine(
    completions: Sequence[Any], answer: Sequence[Any], *, model: str = "", **_: Any
) -> list[float | None]:
    """Cosine of the embeddings of a completion and the right answer, by an encoder; from -1 to 1.

    `model` is the folder of the encoder, to be set in a file of your own:
    ``near = functools.partial(embedding_cosine, model="folder")``; `gspo-rs grade --embedding`
    takes it by itself, in batches and on a device. None without a right answer. A text longer than
    the encoder reads raises; nothing is cut off.

    Traps
    -----
    It says that two texts are about the same, not that both are true: "the answer is not 12" and
    "the answer is 13" are near to "the answer is 12". Copying the question brings a completion
    nearer to most answers. Cosines of one encoder fill a small part of the range, each its own:
    compare within groups, and never those of two encoders.

    References
    ----------
    Sentence-BERT (Reimers and Gurevych 2019, arXiv:1908.10084). Needs ``gspo_rs[train]``.
    """
    if not model:
        raise RewardError(
            "embedding_cosine needs the folder of an encoder: set it in a file of yours, near ="
            ' functools.partial(embedding_cosine, model="folder"), or grade with --embedding folder'
        )
    encoder = _encoder(str(model))
    found: list[float | None] = []
    for one, right in zip(completions, answer, strict=True):
        if right is None:
            found.append(None)
            continue
        # A text at a time, so that there is nothing beside it.
        vectors = encoder.vectors([encoder.ids(said(one)), encoder.ids(str(right))], tokens=1)
        found.append(cosine(*vectors))
    return found


class Encoder:
    """Makes vectors of texts.

    Parameters
    ----------
    folder : path
        With a model as transformers or sentence-transformers save it, and its tokenizer.
    device : str
    dtype : {"float32", "bfloat16", "float16"}

    Raises
    ------
    RewardError
        If it is no such folder, or has a part beside the model that is not known.

    Notes
    -----
    The vector of a text is the mean of its tokens in the last layer, or the first of them where
    sentence-transformers' settings say so. Texts are padded to powers of two, in batches that are
    filled up, so that a vector does not depend on the other texts.
    """

    def __init__(self, folder: str | Path, device: str = "cpu", dtype: str = "float32") -> None:
        place = Path(folder)
        self._first = _takes_first(place)
        self._tokenizer = loaded_tokenizer(place, _WHAT)
        self._model: Any = loaded_model(
            "AutoModel", place, _WHAT, device=device, dtype=dtype, unused=("pooler.",)
        )
        most = getattr(self._tokenizer, "model_max_length", None) or 1 << 30
        self.longest = min(longest_of(self._model.config), int(most))

    def ids(self, text: str) -> list[int]:
        """Return the tokens of a text."""
        return list(self._tokenizer(text)["input_ids"])

    def vectors(self, ids: Sequence[Sequence[int]], *, tokens: int) -> list[NDArray[np.float64]]:
        """Return the vectors of texts, given as tokens by `ids`, in batches of so many.

        Raises
        ------
        ValueError
            If the encoder cannot read one.
        """
        import torch

        for row in ids:
            if not 0 < len(row) <= self.longest:
                raise ValueError(f"{len(row)} tokens; the encoder reads 1 to {self.longest}")
        pad = self._tokenizer.pad_token_id or 0
        device = next(self._model.parameters()).device
        found: dict[int, NDArray[np.float64]] = {}
        for batch, length, size in batches_of(list(map(len, ids)), self.longest, tokens):
            padded, mask = filled([ids[row] for row in batch], length, size, pad)
            with torch.inference_mode():
                states = self._model(
                    input_ids=padded.to(device), attention_mask=mask.to(device)
                ).last_hidden_state.float()
                weights = mask.to(device)[:, :, None].float()
                mean = (states * weights).sum(1) / weights.sum(1)
                pooled = (states[:, 0] if self._first else mean).cpu().double().numpy()
            found |= {row: pooled[place] for place, row in enumerate(batch)}
        return [found[row] for row in range(len(ids))]


def cosine(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Return the cosine of two vectors; 0 where one is nothing.

    Examples
    --------
    >>> cosine(np.array([3.0, 4.0]), np.array([4.0, 3.0]))
    0.96
    """
    lengths = np.sqrt((one * one).sum() * (other * other).sum())
    return float(np.clip((one * other).sum() / lengths, -1.0, 1.0)) if lengths else 0.0


@lru_cache
def _encoder(folder: str) -> Encoder:
    return Encoder(folder)


def _takes_first(folder: Path) -> bool:
    """Return whether sentence-transformers' settings take the first token and not the mean."""
    parts = _json(folder / "modules.json", [])
    kinds = [str(part["type"]).rpartition(".")[2] for part in parts]
    if other := [kind for kind in kinds if kind not in ("Transformer", "Pooling", "Normalize")]:
        raise RewardError(f"{folder} has a part {other[0]}, which is not known here")
    if any(part["path"] for part, kind in zip(parts, kinds, strict=True) if kind == "Transformer"):
        raise RewardError(f"{folder} has its model in a folder of its own; name that one")
    modes: Mapping[str, Any] = {}
    for part, kind in zip(parts, kinds, strict=True):
        if kind == "Pooling":
            modes = _json(folder / part["path"] / "config.json", {})
    chosen = [name.removeprefix(_MODE) for name, on in modes.items() if on and _MODE in name]
    if chosen and chosen not in (["cls_token"], ["mean_tokens"]):
        raise RewardError(
            f"{folder} pools by {', '.join(chosen)}; mean_tokens and cls_token are known"
        )
    return chosen == ["cls_token"]


def _json(file: Path, absent: Any) -> Any:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else absent
