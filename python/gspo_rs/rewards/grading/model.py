"""Scores from a reward model: a sequence classifier with one label."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gspo_rs.rewards.errors import RewardError
from gspo_rs.rewards.grading.engine import Slice
from gspo_rs.rewards.library.texts import said
from gspo_rs.rewards.model_folder import (
    SHORTEST,
    batches_of,
    digest_of_folder,
    filled,
    loaded_model,
    loaded_tokenizer,
    longest_of,
    tokens_of,
)
from gspo_rs.rewards.workers import Grade

__all__ = ["WHAT", "ModelEngine", "ids_of", "refuse_labels", "scored", "scorer_of_folder", "unread"]

WHAT = "a reward model"


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
        self.name, place = name, Path(folder)
        self._tokenizer = loaded_tokenizer(place, WHAT)
        kind = "AutoModelForSequenceClassification"
        self._model: Any = loaded_model(kind, place, WHAT, device=device, dtype=dtype)
        refuse_labels(place, self._model.config)
        self._longest = longest_of(self._model.config)
        self._tokens = tokens_of(device)
        self.scorer = scorer_of_folder(place, dtype, self._tokens)

    def grade(self, rows: Slice) -> list[Grade]:
        """Return the grade of each row."""
        ids = [ids_of(self._tokenizer, rows, row) for row in range(len(rows.completions))]
        grades = unread(ids, self._longest)
        left = [row for row in range(len(ids)) if row not in grades]
        lengths = [len(ids[row]) for row in left]
        for batch, length, size in batches_of(lengths, self._longest, self._tokens):
            started = time.monotonic()
            scores = self._scores([ids[left[place]] for place in batch], length, size)
            seconds = (time.monotonic() - started) / len(batch)
            for place, score in zip(batch, scores, strict=True):
                grades[left[place]] = scored(score, seconds)
        return [grades[row] for row in range(len(ids))]

    def close(self) -> None:
        """Let the model go."""
        self._model = None

    def _scores(self, ids: Sequence[Sequence[int]], length: int, size: int) -> list[float]:
        """Return the logits of rows padded to a length, and filled up to a batch."""
        import torch

        # The model finds the end of a row by the first of the ids that pad it.
        ends = {row[-1] for row in ids}
        pad = self._tokenizer.pad_token_id
        if pad is None or pad in ends:
            pad = next(number for number in range(len(ends) + 1) if number not in ends)
        self._model.config.pad_token_id = pad
        padded, mask = filled(ids, length, size, pad)
        device = next(self._model.parameters()).device
        with torch.inference_mode():
            found = self._model(input_ids=padded.to(device), attention_mask=mask.to(device))
        logits: list[float] = found.logits[: len(ids), 0].float().tolist()
        return logits


def ids_of(tokenizer: Any, rows: Slice, row: int) -> list[int]:
    """Return the tokens of a row: by the chat template, or of the pair of prompt and completion."""
    completion = rows.completions[row]
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


def unread(ids: Sequence[Sequence[int]], longest: int) -> dict[int, Grade]:
    """Return the grades of the rows that a model cannot read, which are errors, by their places."""
    return {
        row: Grade("error", error=f"has {len(tokens)} tokens; the model reads 1 to {longest}")
        for row, tokens in enumerate(ids)
        if not 0 < len(tokens) <= longest
    }


def scored(score: float, seconds: float, attempts: int = 1) -> Grade:
    """Return the grade of a row with a score."""
    more: dict[str, Any] = {"seconds": seconds, "attempts": attempts}
    if not math.isfinite(score):
        return Grade("error", error=f"the model's score is {score}", **more)
    return Grade("ok", score, **more)


def refuse_labels(folder: Path, config: Any) -> None:
    """Raise a RewardError unless a model has one label."""
    if config.num_labels != 1:
        raise RewardError(
            f"{folder} has {config.num_labels} labels; a reward model has one, whose logit is the"
            " reward"
        )


def scorer_of_folder(folder: Path, dtype: str, tokens: int) -> str:
    """Return the digest of a model here, and of what else decides about its scores."""
    import torch
    import transformers

    versions = f"torch {torch.__version__} transformers {transformers.__version__}"
    return digest_of_folder(folder, dtype, f"{SHORTEST} {tokens}", versions)
