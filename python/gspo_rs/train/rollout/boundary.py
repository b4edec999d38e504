"""The border between prompt and completion, tokenized as one text and then split."""

from collections.abc import Sequence
from typing import Any

# Offsets are Python's own integers: those of long texts are many times their size.
_AT_ONCE = 64


def completion_rows(
    tokenizer: Any,
    prompts: Sequence[str],
    completions: Sequence[str],
    starts: Sequence[list[int]],
) -> list[list[int] | None]:
    """Return the tokens of completions in context, after their prompts.

    Apart they may be others: a tokenizer of the SentencePiece kind begins every text with a blank.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
        One with offsets (a fast one) tells by them where a token begins and ends; of another
        the completion's tokens have to write the completion.
    prompts, completions : sequence of str, length n
        The texts.
    starts : sequence of list of int, length n
        The tokens of each prompt alone, without special tokens.

    Returns
    -------
    list of list of int or None, length n
        None where the whole does not begin with the prompt's own tokens, or one of its tokens
        covers the border: there the completion has no tokens that a policy could have sampled.
    """
    rows: list[list[int] | None] = []
    for first in range(0, len(prompts), _AT_ONCE):
        some = slice(first, first + _AT_ONCE)
        rows += _cut(tokenizer, prompts[some], completions[some], starts[some])
    return rows


def _cut(
    tokenizer: Any,
    prompts: Sequence[str],
    completions: Sequence[str],
    starts: Sequence[list[int]],
) -> list[list[int] | None]:
    wholes = [prompt + completion for prompt, completion in zip(prompts, completions, strict=True)]
    fast = bool(tokenizer.is_fast)
    found = tokenizer(wholes, add_special_tokens=False, return_offsets_mapping=fast)
    rows: list[list[int] | None] = []
    for place, (whole, start) in enumerate(zip(found["input_ids"], starts, strict=True)):
        cut = len(start)
        exact = whole[:cut] == start
        if exact and fast:
            exact = _is_border(found["offset_mapping"][place], cut, len(prompts[place]))
        elif exact:
            exact = tokenizer.decode(whole) == tokenizer.decode(start) + completions[place]
        rows.append(whole[cut:] if exact else None)
    return rows


def _is_border(offsets: Sequence[tuple[int, int]], cut: int, border: int) -> bool:
    """Return whether tokens before `cut` end, and those after it begin, at the border or later."""
    before = all(end <= border for _, end in offsets[:cut])
    return before and all(start >= border for start, _ in offsets[cut:])
