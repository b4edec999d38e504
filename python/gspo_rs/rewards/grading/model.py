"""Scores from a reward model: a sequence classifier with one label."""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gspo_rs.rewards.errors import RewardError
from gspo_rs.rewards.grading.engine import Slice
from gspo_rs.rewards.library.texts import said
from gspo_rs.rewards.workers import Grade

__all__ = ["ModelEngine"]

SHORTEST = 32
# Tokens of a batch, padding among them.
TOKENS = 1 << 13


class ModelEngine:
    """Grades by the only logit of a sequence classifier.

    Parameters
    ----------
    folder : path
        With the model, as `transformers` saves it, and its tokenizer.
    name : str
        Of the reward.
    device : str
        Of the model.
    dtype : {"float32", "bfloat16", "float16"}
        Of its weights.

    Raises
    ------
    RewardError
        If it is no folder with such a model; says what it is.

    Notes
    -----
    A row is rendered by the tokenizer's chat template, or without one as the pair of prompt and
    completion, and padded to the next power of two. Rows of one such length make batches of one
    number of rows, filled up with copies. So the shapes of all products depend on the row alone,
    and so does its score: in float32 on a CPU to the bit. A row that is longer than the model can
    read is an error of the row; nothing is cut off.
    """

    kind, whole_groups = "model", False

    def __init__(
        self,
        folder: str | Path,
        *,
        name: str = "model",
        device: str = "cpu",
        dtype: str = "float32",
    ) -> None:
        self.name = name
        place = Path(folder)
        if not (place / "config.json").is_file():
            raise RewardError(f"{folder} has no config.json; name the folder of a reward model")
        self._model, self._tokenizer = _loaded(place, device, dtype)
        self._longest = int(getattr(self._model.config, "max_position_embeddings", None) or 1 << 30)
        self.scorer = _digest(place, dtype)

    def grade(self, rows: Slice) -> list[Grade]:
        """Return the grade of each row."""
        ids = [self._ids(rows, row) for row in range(len(rows.completions))]
        grades: dict[int, Grade] = {}
        for row, tokens in enumerate(ids):
            if not 0 < len(tokens) <= self._longest:
                error = f"has {len(tokens)} tokens; the model reads 1 to {self._longest}"
                grades[row] = Grade("error", error=error)
        left = [row for row in range(len(ids)) if row not in grades]
        for batch, length in batches_of([len(ids[row]) for row in left], self._longest):
            started = time.monotonic()
            scores = self._scores([ids[left[place]] for place in batch], length)
            seconds = (time.monotonic() - started) / len(batch)
            for place, score in zip(batch, scores, strict=True):
                grades[left[place]] = _grade(score, seconds)
        return [grades[row] for row in range(len(ids))]

    def close(self) -> None:
        """Let the model go."""
        self._model = None

    def _ids(self, rows: Slice, row: int) -> list[int]:
        """Return the tokens of a row."""
        completion, tokenizer = rows.completions[row], self._tokenizer
        prompt = "" if rows.prompts is None else rows.prompts[row]
        if tokenizer.chat_template is None:
            first = prompt if isinstance(prompt, str) else "\n".join(said([one]) for one in prompt)
            pair = [first, said(completion)] if first else [said(completion)]
            return list(tokenizer(*pair)["input_ids"])
        asked = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        answer = [{"role": "assistant", "content": said(completion)}]
        chat = [*asked, *(answer if isinstance(completion, str) else completion)]
        text = tokenizer.apply_chat_template(chat, tokenize=False)
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    def _scores(self, ids: Sequence[Sequence[int]], length: int) -> list[float]:
        """Return the logits of rows padded to a length, and filled up to a batch."""
        import torch

        rows = [*ids, *[ids[0]] * (size_of(length) - len(ids))]
        # The model finds the end of a row by the first of the ids that pad it.
        ends = {row[-1] for row in rows}
        pad = self._tokenizer.pad_token_id
        if pad is None or pad in ends:
            pad = next(number for number in range(len(ends) + 1) if number not in ends)
        self._model.config.pad_token_id = pad
        padded = torch.tensor([[*row, *[pad] * (length - len(row))] for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows])
        device = next(self._model.parameters()).device
        with torch.inference_mode():
            found = self._model(input_ids=padded.to(device), attention_mask=mask.to(device))
        logits: list[float] = found.logits[: len(ids), 0].float().tolist()
        return logits


def batches_of(lengths: Sequence[int], longest: int) -> Iterator[tuple[list[int], int]]:
    """Yield batches of rows that are padded to one length, the longest first, and that length.

    Examples
    --------
    >>> list(batches_of([40, 3, 64], 100))
    [([0, 2], 64), ([1], 32)]
    """
    buckets: dict[int, list[int]] = {}
    for row, length in enumerate(lengths):
        buckets.setdefault(bucket_of(length, longest), []).append(row)
    for bucket in sorted(buckets, reverse=True):  # what does not fit fails at once
        rows, size = buckets[bucket], size_of(bucket)
        for start in range(0, len(rows), size):
            yield rows[start : start + size], bucket


def bucket_of(length: int, longest: int) -> int:
    """Return the length that a row is padded to: the next power of two that the model reads."""
    return min(max(SHORTEST, 1 << (length - 1).bit_length()), longest)


def size_of(bucket: int) -> int:
    """Return the rows of a batch of one length."""
    return max(TOKENS // bucket, 1)


def _grade(score: float, seconds: float) -> Grade:
    if not math.isfinite(score):
        return Grade("error", error=f"the model's score is {score}", seconds=seconds)
    return Grade("ok", score, seconds=seconds)


def _loaded(folder: Path, device: str, dtype: str) -> tuple[Any, Any]:
    try:
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer
    except ImportError as error:
        raise RewardError(
            f"a reward model needs transformers: pip install 'gspo_rs[train]' ({error})"
        ) from error
    if dtype not in ("float32", "bfloat16", "float16"):
        raise RewardError(f"dtype is {dtype!r}; use float32, bfloat16 or float16")
    given = {"trust_remote_code": False, "local_files_only": True}
    try:
        model, loading = AutoModelForSequenceClassification.from_pretrained(
            folder,
            dtype=getattr(torch, dtype),
            output_loading_info=True,
            use_safetensors=True,
            **given,
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, **given)
    except (OSError, ValueError, KeyError) as error:
        raise RewardError(f"{folder} cannot be loaded as a reward model: {error}") from error
    _refuse_other(folder, model, loading)
    return model.to(device).eval(), tokenizer


def _refuse_other(folder: Path, model: Any, loading: Mapping[str, Any]) -> None:
    if model.config.num_labels != 1:
        raise RewardError(
            f"{folder} has {model.config.num_labels} labels; a reward model has one, whose logit is"
            " the reward"
        )
    if missing := sorted(loading["missing_keys"]):
        raise RewardError(
            f"{folder} has no weights {missing[0]!r}, which would be drawn at random; it is a model"
            " of another kind"
        )


def _digest(folder: Path, dtype: str) -> str:
    """Return the digest of all files of a model, and of what else decides about its scores."""
    import torch
    import transformers

    found = hashlib.sha256()
    versions = f"torch {torch.__version__} transformers {transformers.__version__}"
    found.update(f"{dtype} {SHORTEST} {TOKENS} {versions}".encode())
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_relative_to(folder / ".git"):
            found.update(os.fsencode(path.relative_to(folder)))
            with open(path, "rb") as file:  # noqa: PTH123 -- `file_digest` wants the plain object
                found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()
