"""Tokens of logged log-probabilities, where text and length leave no doubt about them."""

import re
from dataclasses import dataclass, field
from typing import Any

from gspo_rs.samplers.special_tokens import Ends
from gspo_rs.train.rollout.spelling import spellings

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


@dataclass
class Logged:
    """The texts a tokenizer can write, and how they can end."""

    tokenizer: Any
    ends: Ends
    vocabulary: dict[str, int] = field(init=False)
    in_bytes: bool = field(init=False)
    marked: bool = field(init=False)

    def __post_init__(self) -> None:
        self.vocabulary = self.tokenizer.get_vocab()
        # A piece that continues a word as "##ing" is another where the word is cut elsewhere.
        model = getattr(getattr(self.tokenizer, "backend_tokenizer", None), "model", None)
        self.marked = bool(getattr(model, "continuing_subword_prefix", None))
        self.in_bytes = any(map(_BYTE.fullmatch, self.vocabulary))

    def tokens(self, text: str, row: list[int], apart: list[int], number: int) -> list[int] | str:
        """Return the tokens that `number` log-probabilities belong to, or why it is uncertain.

        Parameters
        ----------
        text : str
            The completion.
        row, apart : list of int
            Its tokens after the prompt, and alone.
        number : int
            Log-probabilities, that of an end token included if one was sampled.

        Returns
        -------
        list of int or str
            A policy samples tokens that no tokenizer would make of the text, and writes the same.
            So they are certain only where no other tokens of that number do.
        """
        ended = self.ends.ended(text)
        numbers = [len(row)] if ended or not self.ends.tokens else [len(row), len(row) + 1]
        if number not in numbers:
            return f"{number} old log-probabilities for {len(row)} tokens"
        closings = 0 if ended or number == 0 else len(self.ends.tokens)
        if number and (self._doubtful(row, apart) or self._ways(row, number, closings) != 1):
            return f"{number} old log-probabilities fit more than one way to write it as tokens"
        return row if number == len(row) else [*row, self.ends.tokens[0]]

    def _doubtful(self, row: list[int], apart: list[int]) -> bool:
        """Return whether the text may have been written by tokens that other texts share."""
        # A text that lost its first blank, an unknown word, bytes in the place of characters.
        if row != apart or self.tokenizer.unk_token_id in row:
            return True
        return bool(row) and (self.in_bytes or self.marked)

    def _ways(self, row: list[int], number: int, closings: int) -> int:
        """Count the lists of `number` tokens that write the text of `row` and may then end."""
        pieces = "".join(self.tokenizer.convert_ids_to_tokens(row))
        ways = spellings(pieces, number, self.vocabulary)
        return ways[number] + closings * ways[number - 1]
