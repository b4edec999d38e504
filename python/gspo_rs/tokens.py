"""Tokens: scored texts turned into what the model reads, and which of them it cannot take."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gspo_rs.config import Config
from gspo_rs.rollouts import Ragged, Rollouts


class LengthError(ValueError):
    """A rollout is longer than the run allows; the message names it and the remedies."""


def tokenise(
    rollouts: Rollouts, tokenizer: Any, context: int | None, config: Config
) -> tuple[Rollouts, NDArray[np.bool_]]:
    """Tokenise prompts and completions of scored texts.

    Parameters
    ----------
    rollouts : Rollouts
        Texts, from a file.
    tokenizer : transformers.PreTrainedTokenizerBase
        Of the policy.
    context : int or None
        Most tokens of prompt and completion together.
    config : Config
        Tells `max_prompt_length`, `max_completion_length` and `on_long`.

    Returns
    -------
    tokens : Rollouts
        With `prompt_tokens`, special tokens included, and `completion_tokens`. A completion that
        is shorter than `max_completion_length` ends with the end token: its text was complete.
        Where old log-probabilities are given, their number tells whether it was sampled. Tokens
        that the file has stay as they are.
    too_long : ndarray of bool, shape (n,)
        Rows beyond a limit; none is cut.

    Raises
    ------
    LengthError
        If a row is too long and `on_long` is "error", a prompt has no token, or there are fewer or
        more old log-probabilities than tokens.
    """
    if rollouts.prompt_tokens is None:
        rollouts = replace(rollouts, prompt_tokens=_prompts(rollouts, tokenizer))
    if rollouts.completion_tokens is None:
        rollouts = _with_completions(rollouts, tokenizer, config.max_completion_length)
    assert rollouts.prompt_tokens is not None
    assert rollouts.completion_tokens is not None
    prompts, completions = rollouts.prompt_tokens.lengths, rollouts.completion_tokens.lengths
    limits = [
        ("prompt", prompts, "max_prompt_length", config.max_prompt_length),
        ("completion", completions, "max_completion_length", config.max_completion_length),
        ("prompt and completion", prompts + completions, "the model's context", context),
    ]
    too_long = np.zeros(rollouts.n_rollouts, dtype=bool)
    for what, lengths, name, limit in limits:
        if limit is None:
            continue
        if config.on_long == "error" and (lengths > limit).any():
            row = int((lengths > limit).argmax())
            group = int(np.searchsorted(rollouts.offsets, row, "right")) - 1
            key = group if rollouts.group_ids is None else rollouts.group_ids[group]
            raise LengthError(
                f"group {key!r}: {what} of {lengths[row]} tokens, {name} is {limit};"
                " raise it where the model allows, or set on_long = 'drop'"
            )
        too_long |= lengths > limit
    return rollouts, too_long


def _prompts(rollouts: Rollouts, tokenizer: Any) -> Ragged:
    """Tokenise each prompt once; it stands again in every row of its group."""
    texts = list(dict.fromkeys(rollouts.prompts))
    rows = dict(zip(texts, tokenizer(texts)["input_ids"], strict=True)) if texts else {}
    for text, row in rows.items():
        if not row:
            raise LengthError(f"prompt {text!r} has no token to predict the first one from")
    return Ragged.from_rows([rows[text] for text in rollouts.prompts], np.int64)


def _with_completions(rollouts: Rollouts, tokenizer: Any, limit: int) -> Rollouts:
    texts, end, old = rollouts.completions, tokenizer.eos_token_id, rollouts.old_logprobs
    rows = tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
    if old is None:
        if end is not None:
            rows = [[*row, end] if len(row) < limit else row for row in rows]
        return replace(rollouts, completion_tokens=Ragged.from_rows(rows, np.int64))
    given: list[Any] = [old.row(place) for place in range(len(rows))]
    for place, (row, logprobs) in enumerate(zip(rows, given, strict=True)):
        if np.isnan(rollouts.reward[place]):
            row.clear()  # left out, whatever it has
            given[place] = []
        elif end is not None and len(logprobs) == len(row) + 1:
            row.append(end)
        elif len(logprobs) != len(row):
            raise LengthError(
                f"row {place} of the batch has {len(logprobs)} old log-probabilities for"
                f" {len(row)} tokens; name the column of the sampled tokens as"
                f" completion_tokens_column: {texts[place][:80]!r}"
            )
    return replace(
        rollouts,
        completion_tokens=Ragged.from_rows(rows, np.int64),
        old_logprobs=Ragged.from_rows(given, np.float32),
    )
