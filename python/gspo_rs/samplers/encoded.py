"""Prompts as a sampler reads them, and rollouts of what it has drawn for each."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from gspo_rs.rollouts.rollouts import Ragged, Rollouts
from gspo_rs.samplers.completions import Drawn
from gspo_rs.samplers.detokenize import completion_texts, decoded
from gspo_rs.samplers.special_tokens import before, framed, text_rows

__all__ = ["Encoded", "encoded", "numbered"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Encoded:
    """Prompts that are sampled for.

    Attributes
    ----------
    rows : list of int
        Which of those given.
    tokens : list of list of int
        As the policy reads them.
    texts : sequence of str
        Theirs.
    alone : list of list of int
        The tokens of each text without special ones.
    """

    rows: list[int]
    tokens: list[list[int]]
    texts: Sequence[str]
    alone: list[list[int]]

    def rollouts(self, tokenizer: Any, drawn: Sequence[Sequence[Drawn]]) -> Rollouts:
        """Return rollouts of what was drawn for each prompt; one without any is left out.

        Parameters
        ----------
        tokenizer : transformers.PreTrainedTokenizerBase
            Of the policy.
        drawn : sequence of sequences of Drawn, one per prompt
            Groups, which may have fewer completions than others.

        Returns
        -------
        Rollouts
            As `gspo_rs.samplers.transformers.generate` returns them.
        """
        some = [place for place, group in enumerate(drawn) if len(group)]
        places = [place for place in some for _ in drawn[place]]
        every = [one for place in some for one in drawn[place]]
        texts = [self.texts[place] for place in places]
        starts = [self.alone[place] for place in places]
        written = [one.tokens[: len(one.tokens) - one.ended].tolist() for one in every]
        sizes = np.array([len(drawn[place]) for place in some], dtype=np.int64)
        return Rollouts(
            offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            prompts=texts,
            completions=completion_texts(tokenizer, texts, starts, written),
            reward=np.full(len(every), np.nan),
            prompt_tokens=Ragged.from_rows([self.tokens[place] for place in places], np.int64),
            completion_tokens=Ragged.from_rows([one.tokens for one in every], np.int64),
            sampler_logprobs=Ragged.from_rows([one.logprobs for one in every], np.float32),
            truncated=np.array([not (one.ended or one.stopped) for one in every], dtype=np.bool_),
            group_ids=[self.rows[place] for place in some],
            policy_versions=_versions(every),
        )


def _versions(every: Sequence[Drawn]) -> Ragged | None:
    rows: list[NDArray[np.int64]] = [one.versions for one in every if one.versions is not None]
    return Ragged.from_rows(rows, np.int64) if every and len(rows) == len(every) else None


def encoded(
    tokenizer: Any,
    prompts: Sequence[str] | Sequence[Sequence[int]],
    limit: int | None,
    on_long_prompt: str,
    *,
    special: bool,
) -> Encoded:
    """Read prompts as tokens.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
        Of the policy.
    prompts : sequence of str or of sequences of int
        Tokens are read as they are.
    limit : int or None
        Most tokens of one.
    on_long_prompt : {"error", "drop"}
        What one with more gets.
    special : bool
        Put before texts what the tokenizer puts there.

    Raises
    ------
    ValueError
        If a prompt has no token, or more than the limit and that is an error; names its row.
    """
    rows, tokens = _kept(_tokens(tokenizer, prompts, special), prompts, limit, on_long_prompt)
    kept: Any = [prompts[row] for row in rows]
    if _are_texts(kept):
        return Encoded(rows, tokens, kept, text_rows(tokenizer, kept))
    return Encoded(rows, tokens, [decoded(tokenizer, row) for row in tokens], tokens)


def _tokens(tokenizer: Any, prompts: Sequence[Any], special: bool) -> list[list[int]]:
    if not _are_texts(prompts):
        return [list(map(int, row)) for row in prompts]
    frame = before(tokenizer) if special and prompts else []
    return [framed(row, frame) for row in text_rows(tokenizer, prompts)]


def _kept(
    tokens: list[list[int]], prompts: Sequence[Any], limit: int | None, on_long_prompt: str
) -> tuple[list[int], list[list[int]]]:
    """Return the rows of `prompts` that are kept, and their tokens."""
    for row, some in enumerate(tokens):
        if not some:
            raise ValueError(f"prompt of row {row} has no token: {prompts[row]!r}")
    long = {row for row, some in enumerate(tokens) if limit is not None and len(some) > limit}
    if long:
        row = min(long)
        which = f"prompt of row {row} has {len(tokens[row])} tokens, the limit is {limit}"
        if on_long_prompt == "error":
            raise ValueError(
                f"{which}; raise max_prompt_length, shorten max_completion_length, or drop it "
                f"with on_long_prompt='drop': {prompts[row][:80]!r}"
            )
        logger.warning("dropped %d of %d prompts: %s", len(long), len(tokens), which)
    kept = [row for row in range(len(tokens)) if row not in long]
    return kept, [tokens[row] for row in kept]


def _are_texts(prompts: Sequence[Any]) -> TypeGuard[Sequence[str]]:
    return not len(prompts) or isinstance(prompts[0], str)


def numbered(given: Sequence[int] | None, n: int) -> Sequence[int]:
    """Return the numbers of `n` prompts in the draws, those given or their rows.

    Raises
    ------
    ValueError
        If there are not as many, or one is twice or negative.
    """
    numbers = range(n) if given is None else [int(number) for number in given]
    if len(numbers) != n or len(set(numbers)) < n or min(numbers, default=0) < 0:
        raise ValueError(
            f"prompt_numbers = {given!r}: give {n}, one for each prompt, none twice or negative"
        )
    return numbers
