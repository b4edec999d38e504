"""Scores from an encoder of texts: how near a completion is to the right answer."""

from __future__ import annotations

import time
from pathlib import Path

from gspo_rs.rewards.errors import RewardError
from gspo_rs.rewards.grading.engine import Slice
from gspo_rs.rewards.grading.model import scorer_of_folder, unread
from gspo_rs.rewards.library.embeddings import Encoder, cosine
from gspo_rs.rewards.library.texts import said
from gspo_rs.rewards.model_folder import tokens_of
from gspo_rs.rewards.workers import Grade

__all__ = ["EmbeddingEngine"]

ANSWER = "answer"


class EmbeddingEngine:
    """Grades by the cosine of the embeddings of a completion and of its right answer.

    Parameters
    ----------
    folder : path
        Of the encoder, see `Encoder`.
    name : str
        Of the reward.
    device : str
        Of the encoder.
    dtype : {"float32", "bfloat16", "float16"}
        Of its weights.

    Raises
    ------
    RewardError
        As `Encoder`.

    Notes
    -----
    The right answer is what is handed on as ``answer``; a row where it is null has no reward, and
    one whose texts are longer than the encoder reads is an error. In float32 on a CPU no bit of a
    reward depends on the rows beside it.
    """

    kind, whole_groups = "model", False

    def __init__(
        self,
        folder: str | Path,
        *,
        name: str = "embedding",
        device: str = "cpu",
        dtype: str = "float32",
    ) -> None:
        self.name = name
        self._encoder: Encoder | None = Encoder(folder, device, dtype)
        self._tokens = tokens_of(device)
        self.scorer = scorer_of_folder(Path(folder), dtype, self._tokens)

    def grade(self, rows: Slice) -> list[Grade]:
        """Return the grade of each row."""
        encoder = self._encoder
        if encoder is None or ANSWER not in rows.columns:
            raise RewardError(
                "an embedding is compared with the right answer; hand it on with --pass answer, or"
                " --pass answer=COLUMN"
            )
        pairs = {
            row: (said(completion), str(right))
            for row, (completion, right) in enumerate(
                zip(rows.completions, rows.columns[ANSWER], strict=True)
            )
            if right is not None
        }
        started = time.monotonic()
        texts = list(dict.fromkeys(text for pair in pairs.values() for text in pair))
        ids = [encoder.ids(text) for text in texts]
        wrong = unread(ids, encoder.longest)
        faults = {texts[place]: grade for place, grade in wrong.items()}
        read = {texts[place]: row for place, row in enumerate(ids) if place not in wrong}
        vectors = dict(
            zip(read, encoder.vectors(list(read.values()), tokens=self._tokens), strict=True)
        )
        seconds = (time.monotonic() - started) / max(len(pairs), 1)
        grades = [Grade("none", attempts=0)] * len(rows.completions)
        for row, (one, other) in pairs.items():
            fault = faults.get(one) or faults.get(other)
            near = 0.0 if fault else cosine(vectors[one], vectors[other])
            grades[row] = fault or Grade("ok", near, seconds=seconds)
        return grades

    def close(self) -> None:
        """Let the encoder go."""
        self._encoder = None
