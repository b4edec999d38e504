"""Special tokens around a text: those before it, and the one that ends it."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

_log = logging.getLogger("gspo_rs")
_ANSWER = "the answer"


def text_rows(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Return the tokens of each text alone, nothing before it and nothing after it."""
    if not texts:  # of an empty list transformers makes one empty text
        return []
    rows: list[list[int]] = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    return rows


def before(tokenizer: Any) -> list[int]:
    """Return the tokens that a tokenizer puts before every text: a BOS, mostly.

    What it puts after every text, such as T5's end token, is no part of a prompt, which goes on.

    Raises
    ------
    ValueError
        If it does more to a text than to put tokens around it.
    """
    special = set(tokenizer.all_special_ids)
    for token in range(len(tokenizer)):
        text = "" if token in special else tokenizer.decode([token])
        row = text_rows(tokenizer, [text])[0] if text else []
        if row:
            around: list[int] = tokenizer(text)["input_ids"]
            for start in range(len(around) - len(row) + 1):
                if around[start : start + len(row)] == row:
                    return around[:start]
            raise ValueError(
                f"the tokenizer makes {around} of {text!r}, and {row} without special tokens:"
                " the second is no part of the first, so prompts cannot be framed"
            )
    return []


def framed(row: list[int], frame: list[int]) -> list[int]:
    """Put the frame before a text, but for what the text begins with already.

    Examples
    --------
    >>> framed([5, 6], [1]), framed([1, 5, 6], [1])
    ([1, 5, 6], [1, 5, 6])
    """
    missing = frame[: frame.index(row[0])] if row and row[0] in frame else frame
    return [*missing, *row]


def end_tokens(model: Any, tokenizer: Any, strings: Sequence[str] = ()) -> list[int]:
    """Return the tokens that end a completion: the model's own, and the tokenizer's, in order.

    And what of the stop strings is a token that the tokenizer keeps whole, such as ``<|im_end|>``.
    """
    config = getattr(model, "generation_config", None)
    ends: Any = getattr(config, "eos_token_id", None)
    ends = ends if isinstance(ends, list) else [ends]
    marks = {mark.content: token for token, mark in tokenizer.added_tokens_decoder.items()}
    ends = [*ends, tokenizer.eos_token_id, *(marks.get(string) for string in strings)]
    return sorted({int(end) for end in ends if end is not None})


def turn_end(tokenizer: Any, options: Mapping[str, Any] | None = None) -> int | None:
    """Return the token with which the chat template ends what the assistant says.

    None without a template, or where it ends a turn by no token of its own. A template that
    fails is logged; `options` are its variables.
    """
    if not getattr(tokenizer, "chat_template", None):
        return None
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _ANSWER}]
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False, **(options or {}))
    except (TemplateError, TypeError, ValueError) as error:
        _log.warning("the chat template cannot be rendered, so its end is not known: %s", error)
        return None
    _, found, rest = text.rpartition(_ANSWER)
    rest = rest.lstrip() if found else ""
    marks = {mark.content: token for token, mark in tokenizer.added_tokens_decoder.items()}
    ends = [content for content in marks if content and rest.startswith(content)]
    return marks[max(ends, key=len)] if ends else None


@dataclass(frozen=True)
class Ends:
    """The tokens that may end a completion, and which of them ends one that has none.

    Attributes
    ----------
    tokens : tuple of int
        All of them.
    texts : tuple of str
        Theirs, as they stand in a text.
    usual : int or None
        What ends a text that is no turn of a conversation.
    turn : int or None
        What ends a turn by the chat template.
    everywhere : bool
        Whether `turn` ends plain texts too: the model stops at it.
    markers : frozenset of int
        Those of `tokens` that no text has by chance, as a newline would be.
    strings : tuple of str
        Stop strings: a text that holds one has ended with it, and no token ends it.
    """

    tokens: tuple[int, ...]
    texts: tuple[str, ...]
    usual: int | None
    turn: int | None
    everywhere: bool
    markers: frozenset[int]
    strings: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        tokenizer: Any,
        stops: Sequence[int] | None = None,
        *,
        options: Mapping[str, Any] | None = None,
        strings: Sequence[str] = (),
    ) -> "Ends":
        """Find them for a tokenizer, and for the model whose `end_tokens` are `stops`.

        `options` are those of the chat template, `strings` the stop strings of the sampler.
        """
        turn, eos = turn_end(tokenizer, options), tokenizer.eos_token_id
        tokens = sorted({*(stops or ()), *(x for x in (turn, eos) if x is not None)})
        return cls(
            tokens=tuple(tokens),
            texts=tuple(tokenizer.decode([token]) for token in tokens),
            usual=eos if eos is not None or not tokens else tokens[0],
            turn=turn,
            everywhere=stops is None or turn in stops,
            markers=frozenset(tokens) & frozenset(tokenizer.added_tokens_decoder),
            strings=tuple(strings),
        )

    def after(self, prompt: Sequence[int]) -> int | None:
        """Return the token that ends a completion of `prompt`, the tokens of a text.

        In a conversation it is the one that ended the turns before.
        """
        if self.turn is not None and (self.everywhere or self.turn in prompt):
            return self.turn
        return next((token for token in reversed(prompt) if token in self.markers), self.usual)

    def named(self) -> str:
        """Say which token ends what, for a log."""
        texts = dict(zip(self.tokens, map(repr, self.texts), strict=True))
        turn = None if self.turn is None else texts[self.turn]
        if turn is not None and self.everywhere:
            return turn
        usual = "no token" if self.usual is None else texts[self.usual]
        return usual if turn is None else f"{usual}, or {turn} where the prompt has it"

    def ended(self, text: str) -> bool:
        """Return whether a text has its end already, blanks after it aside."""
        texts = tuple(filter(None, self.texts))
        return self.stopped(text) or text.endswith(texts) or text.rstrip().endswith(texts)

    def stopped(self, said: Any) -> bool:
        """Return whether what was said is a text that holds a stop string."""
        return isinstance(said, str) and any(string in said for string in self.strings)
