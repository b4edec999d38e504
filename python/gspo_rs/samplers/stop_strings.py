"""Stop strings: a completion ends with the token that completes one of them in its text.

Letters: ``B`` rows of one call, ``n`` tokens drawn so far.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from gspo_rs.samplers.detokenize import completion_texts, decoded

__all__ = ["StopStrings", "as_strings"]

_CONTEXT = 16
"""Tokens of a prompt in whose context a completion is decoded: more than a character has."""


def as_strings(stop: str | Sequence[str] | None) -> tuple[str, ...]:
    r"""Return stop strings as a tuple: of one text, of several, or of none.

    Raises
    ------
    ValueError
        If one is empty or no text; names it.

    Examples
    --------
    >>> as_strings("\n\n"), as_strings(["</answer>", "User:"]), as_strings(None)
    (('\n\n',), ('</answer>', 'User:'), ())
    """
    strings = (stop,) if isinstance(stop, str) else tuple(stop or ())
    for string in strings:
        if not isinstance(string, str) or not string:
            raise ValueError(
                f"stop = {stop!r}: {string!r} is no text at which to stop; leave it out"
            )
    return strings


class StopStrings:
    """Tells which rows have a stop string in their text.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
        Of the policy.
    strings : sequence of str
        None empty.
    prompts : mapping of int to list of int
        The tokens of each prompt alone, without special tokens, by the number that it has in the
        draws.

    Notes
    -----
    The text is that of `gspo_rs.samplers.detokenize`, special tokens included, so a string may
    begin or end within a token. Only a token that has the last character of a string, or a part of
    a character, can complete one; after any other nothing is decoded.
    """

    def __init__(
        self, tokenizer: Any, strings: Sequence[str], prompts: Mapping[int, list[int]]
    ) -> None:
        self._tokenizer = tokenizer
        self._strings = strings
        self._last = {"\N{REPLACEMENT CHARACTER}", *(string[-1] for string in strings)}
        self._prompts = prompts
        self._may_close: dict[int, bool] = {}
        self._contexts: list[list[int]] = []

    def begin(self, rows: Sequence[tuple[int, int]]) -> None:
        """Say which prompt and generation each of the next B rows is; their first token is next."""
        self._contexts = [self._prompts[number][-_CONTEXT:] for number, _ in rows]

    def completed(self, rows: Sequence[int], tokens: Tensor) -> list[int]:
        """Return those of some rows whose text has a stop string.

        Parameters
        ----------
        rows : sequence of int
            That had none before their last token.
        tokens : Tensor of int64, shape (B, n)
            What has been drawn for all.

        Returns
        -------
        list of int
        """
        last = tokens[:, -1].tolist()
        return [
            row
            for row in rows
            if self._closes(last[row]) and self._holds(self._contexts[row], tokens[row].tolist())
        ]

    def _closes(self, token: int) -> bool:
        """Return whether a token can complete a string."""
        if token not in self._may_close:
            # Twice: the second time it is written as after another token.
            text = decoded(self._tokenizer, [token, token])
            self._may_close[token] = any(last in text for last in self._last)
        return self._may_close[token]

    def _holds(self, context: list[int], drawn: list[int]) -> bool:
        prompt = decoded(self._tokenizer, context)
        (text,) = completion_texts(self._tokenizer, [prompt], [context], [drawn])
        return any(string in text for string in self._strings)
