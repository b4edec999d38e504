"""One completion that was drawn offline, and the columns of many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

__all__ = ["COLUMNS", "Sampled", "frame_of"]

# Name → type of what is written beside the columns of the prompts, in this order.
COLUMNS: dict[str, pl.DataType] = {
    "prompt_id": pl.Int64(),
    "generation": pl.Int32(),
    "completion": pl.String(),
    "finish_reason": pl.String(),
    "prompt_tokens": pl.List(pl.Int32()),
    "completion_tokens": pl.List(pl.Int32()),
    "logprobs": pl.List(pl.Float32()),
    "seed": pl.Int64(),
    "model": pl.String(),
    "policy_version": pl.String(),
}


@dataclass(frozen=True)
class Sampled:
    """A completion, as far as it is known.

    Attributes
    ----------
    completion : str
        Its text.
    finish_reason : str
        Why it ended: ``stop``, or ``length`` where the limit cut it off.
    seed : int
        It was drawn with.
    prompt_tokens, completion_tokens : sequence of int, optional
        As the model read and wrote them.
    logprobs : sequence of float, optional
        Of each of its tokens, in nats.
    usage : tuple of int and int, optional
        Tokens of the prompt and of the completion, as the endpoint tells them.
    """

    completion: str
    finish_reason: str
    seed: int
    prompt_tokens: Sequence[int] | None = None
    completion_tokens: Sequence[int] | None = None
    logprobs: Sequence[float] | None = None
    usage: tuple[int, int] | None = None

    @property
    def cost(self) -> tuple[int, int]:
        """Tokens of the prompt and of the completion, as far as they are known."""
        if self.usage is not None:
            return self.usage
        return len(self.prompt_tokens or ()), len(self.completion_tokens or self.logprobs or ())


def frame_of(
    prompts: pl.DataFrame,
    drawn: Sequence[Sequence[Sampled | None]],
    *,
    first: int,
    model: str,
    version: str | None,
) -> pl.DataFrame:
    """Return the rows of some prompts: their own columns, and those of `COLUMNS`.

    Parameters
    ----------
    prompts : DataFrame
        A row for each, with a `prompt_id` if they have names of their own.
    drawn : sequence of sequences of Sampled or None
        Their completions; None for one that failed, which has no row.
    first : int
        The number of the first of the prompts, which names it where nothing else does.
    model, version : str
        Which drew them.
    """
    kept = [
        (row, generation, one)
        for row, group in enumerate(drawn)
        for generation, one in enumerate(group)
        if one is not None
    ]
    rows = [row for row, _, _ in kept]
    own: dict[str, list[object]] = {
        "prompt_id": [first + row for row in rows],
        "generation": [generation for _, generation, _ in kept],
        "model": [model] * len(kept),
        "policy_version": [version] * len(kept),
    }
    for name in COLUMNS.keys() - own.keys():
        own[name] = [getattr(one, name) for _, _, one in kept]
    made = pl.DataFrame({name: own[name] for name in COLUMNS}, schema=COLUMNS)
    return pl.concat([prompts[rows], made.drop(prompts.columns, strict=False)], how="horizontal")
