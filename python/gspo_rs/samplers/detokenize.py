"""Detokenization of completions in the context of their prompts."""

from collections.abc import Sequence
from typing import Any


def completion_texts(
    tokenizer: Any,
    prompts: Sequence[str],
    starts: Sequence[list[int]],
    completions: Sequence[Sequence[int]],
) -> list[str]:
    """Return the text that completions add to their prompts.

    Decoded alone, a completion loses the blank at its beginning to tokenizers of the SentencePiece
    kind. And tokens that a tokenizer marks as special, such as ``<think>``, were written like all
    others: they are text. Only BOS and pad are not.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
        Of the policy.
    prompts : sequence of str, length n
        The texts.
    starts : sequence of list of int, length n
        The tokens of each prompt alone, without special tokens.
    completions : sequence of sequence of int, length n
        Tokens, without the one that ended them.

    Returns
    -------
    list of str, length n
        Prompt and text together are what all tokens decode to, wherever the prompt's own do.
    """
    silent = {tokenizer.bos_token_id, tokenizer.pad_token_id}
    spoken = [[token for token in row if token not in silent] for row in completions]
    return [
        _added(tokenizer, prompt, list(start), row)
        for prompt, start, row in zip(prompts, starts, spoken, strict=True)
    ]


def _added(tokenizer: Any, prompt: str, start: list[int], row: list[int]) -> str:
    """Return what `row` adds to the longest part of its prompt that it leaves as it is.

    That is the whole prompt, but where both are written in bytes: there a first token that is half
    a character turns the whole character before it into replacement characters.
    """
    whole = decoded(tokenizer, [*start, *row])
    if whole.startswith(prompt):
        return whole[len(prompt) :]
    for cut in range(len(start), -1, -1):
        before = decoded(tokenizer, start[:cut])
        whole = decoded(tokenizer, [*start[:cut], *row])
        if whole.startswith(before):
            break
    return whole[len(before) :]


def decoded(tokenizer: Any, row: list[int]) -> str:
    """Return the text of tokens, special ones and blanks included; "" of none."""
    options = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
    text: str = tokenizer.decode(row, **options) if row else ""
    return text
