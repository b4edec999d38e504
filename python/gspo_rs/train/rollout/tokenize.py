"""Tokenization of scored texts, and which of them the model cannot take."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gspo_rs.rollouts.rollouts import Ragged, Rollouts
from gspo_rs.samplers.special_tokens import Ends, before, framed, text_rows
from gspo_rs.train.config.config import Config
from gspo_rs.train.rollout.boundary import completion_rows
from gspo_rs.train.rollout.logged_tokens import Logged


class LengthError(ValueError):
    """A rollout has too many tokens, or none that are certain; names it and the remedies."""


def tokenise(
    rollouts: Rollouts,
    tokenizer: Any,
    context: int | None,
    config: Config,
    *,
    ends: Ends | None = None,
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
    ends : Ends, optional
        The tokens that end a completion; by default those that the tokenizer alone tells of.

    Returns
    -------
    tokens : Rollouts
        With `prompt_tokens`, as a policy reads them (see `gspo_rs.samplers.special_tokens`), and
        `completion_tokens`: those of prompt and completion as one text, behind the border. One that
        was complete ends with the end token. Whether it was, its own text tells if it has its
        end; else the number of its old log-probabilities, else `truncated`; where nothing does,
        one shorter than `max_completion_length` was. Tokens that the file has stay as they are.
    too_long : ndarray of bool, shape (n,)
        Rows beyond a limit; none is cut.

    Raises
    ------
    LengthError
        If a row is too long and `on_long` is "error", or a prompt has no token; or of a completion
        with a reward, the border lies inside a token, or its old log-probabilities do not tell
        which tokens they are of.
    ValueError
        If the file has a token that the tokenizer does not have.
    """
    ends = Ends.of(tokenizer) if ends is None else ends
    check_tokens(rollouts, len(tokenizer))
    known = rollouts.completion_tokens is not None or rollouts.old_logprobs is not None
    if rollouts.prompt_tokens is None or rollouts.completion_tokens is None:
        rollouts = _with_tokens(rollouts, tokenizer, ends, config.max_completion_length)
    rollouts = _with_truncated(rollouts, ends, known=known)
    limits = {
        "max_prompt_length": config.max_prompt_length,
        "max_completion_length": config.max_completion_length,
        "the model's context": context,
    }
    return rollouts, beyond_limits(rollouts, limits, config)


def beyond_limits(
    rollouts: Rollouts, limits: Mapping[str, int | None], config: Config
) -> NDArray[np.bool_]:
    """Return which rows have more tokens than a limit allows.

    Parameters
    ----------
    rollouts : Rollouts
        With tokens.
    limits : mapping of str to int or None
        Of `max_prompt_length`, `max_completion_length` and "the model's context", which is of both
        together, those that hold.
    config : Config
        Tells `on_long`.

    Returns
    -------
    ndarray of bool, shape (n,)

    Raises
    ------
    LengthError
        If there is such a row and `on_long` is "error"; names the first.
    """
    assert rollouts.prompt_tokens is not None
    assert rollouts.completion_tokens is not None
    prompts, completions = rollouts.prompt_tokens.lengths, rollouts.completion_tokens.lengths
    parts = {
        "max_prompt_length": ("prompt", prompts),
        "max_completion_length": ("completion", completions),
        "the model's context": ("prompt and completion", prompts + completions),
    }
    too_long = np.zeros(rollouts.n_rollouts, dtype=bool)
    for name, limit in limits.items():
        if limit is None:
            continue
        what, lengths = parts[name]
        if config.on_long == "error" and (lengths > limit).any():
            row = int((lengths > limit).argmax())
            raise LengthError(
                f"{rollouts.place(row)}: {what} of {lengths[row]} tokens, {name} is {limit};"
                " raise it where the model allows, or set on_long = 'drop'"
            )
        too_long |= lengths > limit
    return too_long


def check_tokens(rollouts: Rollouts, known: int) -> None:
    """Check that tokens are those of the tokenizer, which has `known`, and that prompts have any.

    Raises
    ------
    ValueError
        If there is a token that the tokenizer does not have; names it.
    LengthError
        If a prompt of a completion with a reward has no token.
    """
    for name in ("prompt_tokens", "completion_tokens"):
        given: Ragged | None = getattr(rollouts, name)
        if given is None:
            continue
        wrong = (given.values < 0) | (given.values >= known)
        if wrong.any():
            at = int(wrong.argmax())
            row = int(np.searchsorted(given.offsets, at, "right")) - 1
            raise ValueError(
                f"{rollouts.place(row)}: {name} holds {given.values[at]}, but the tokenizer of the"
                f" model has {known} tokens; were they made with another?"
            )
    if rollouts.prompt_tokens is not None:
        empty = (rollouts.prompt_tokens.lengths == 0) & ~np.isnan(rollouts.reward)
        if empty.any():
            place = rollouts.place(int(empty.argmax()))
            raise LengthError(
                f"{place}: prompt_tokens is empty, so nothing predicts the first token"
            )


def _with_tokens(rollouts: Rollouts, tokenizer: Any, ends: Ends, limit: int) -> Rollouts:
    """Tokenise what the file has no tokens for, each prompt once."""
    texts = list(dict.fromkeys(rollouts.prompts))
    alone = dict(zip(texts, text_rows(tokenizer, texts), strict=True))
    if rollouts.prompt_tokens is None:
        frame = before(tokenizer)
        read = {text: framed(row, frame) for text, row in alone.items()}
        for text, tokens in read.items():
            if not tokens:
                raise LengthError(f"prompt {text!r} has no token to predict the first one from")
        prompts = Ragged.from_rows([read[text] for text in rollouts.prompts], np.int64)
        rollouts = replace(rollouts, prompt_tokens=prompts)
    if rollouts.completion_tokens is not None:
        return rollouts
    starts = [alone[text] for text in rollouts.prompts]
    rows = _completions(rollouts, tokenizer, starts)
    if rollouts.old_logprobs is not None:
        return _as_logged(rollouts, Logged(tokenizer, ends), rows)
    for place, row in enumerate(rows):
        text = rollouts.completions[place]
        end = None if ends.ended(text) else ends.after(starts[place])
        if end is not None and not _was_cut(rollouts, place, len(row) >= limit):
            row.append(end)
    return replace(rollouts, completion_tokens=Ragged.from_rows(rows, np.int64))


def _completions(
    rollouts: Rollouts, tokenizer: Any, starts: Sequence[list[int]]
) -> list[list[int]]:
    """Return the tokens of the texts; none for an uncertain text without a reward."""
    rows = completion_rows(tokenizer, rollouts.prompts, rollouts.completions, starts)
    for place, row in enumerate(rows):
        if row is None and not np.isnan(rollouts.reward[place]):
            prompt, completion = rollouts.prompts[place], rollouts.completions[place]
            raise LengthError(
                f"{rollouts.place(place)}: the border between prompt and completion lies inside a"
                f" token, {prompt[-40:]!r} + {completion[:40]!r}; give the tokens that were"
                " sampled, by prompt_tokens_column and completion_tokens_column"
            )
    return [row or [] for row in rows]


def _was_cut(rollouts: Rollouts, place: int, full: bool) -> bool:
    return full if rollouts.truncated is None else bool(rollouts.truncated[place])


def _as_logged(rollouts: Rollouts, logged: Logged, rows: list[list[int]]) -> Rollouts:
    """Return the tokens that the old log-probabilities identify without doubt."""
    assert rollouts.old_logprobs is not None
    given: list[Any] = []
    found: list[list[int]] = []
    apart = text_rows(logged.tokenizer, rollouts.completions)
    for place, row in enumerate(rows):
        scored = not np.isnan(rollouts.reward[place])
        # Without a reward it is left out, whatever it has.
        logprobs: Any = rollouts.old_logprobs.row(place) if scored else []
        given.append(logprobs)
        text = rollouts.completions[place]
        tokens = logged.tokens(text, row, apart[place], len(logprobs)) if scored else []
        if isinstance(tokens, str):
            raise LengthError(
                f"{rollouts.place(place)}: {tokens}; give the tokens that were sampled, by"
                f" completion_tokens_column: {text[:80]!r}"
            )
        found.append(tokens)
    return replace(
        rollouts,
        completion_tokens=Ragged.from_rows(found, np.int64),
        old_logprobs=Ragged.from_rows(given, np.float32),
    )


def _with_truncated(rollouts: Rollouts, ends: Ends, *, known: bool) -> Rollouts:
    """Mark completions without an end token as truncated if no column says so."""
    if rollouts.truncated is not None or not known:
        return rollouts
    assert rollouts.completion_tokens is not None
    rows = map(rollouts.completion_tokens.row, range(rollouts.n_rollouts))
    open_ends = [
        len(row) > 0 and int(row[-1]) not in ends.tokens and not ends.stopped(said)
        for row, said in zip(rows, rollouts.completions, strict=True)
    ]
    return replace(rollouts, truncated=np.array(open_ends, dtype=bool))
