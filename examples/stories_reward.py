"""What a small story is worth: new words, and the thing that its prompt talks about."""

import re


def story(completions: list[str], thing: list[str], **_: object) -> list[float]:
    """From 0 to 1: 0.6 for naming `thing` again, 0.4 for words that are not repeated."""
    return [
        0.6 * names(name, completion) + 0.4 * distinct_words(completion)
        for completion, name in zip(completions, thing, strict=True)
    ]


def distinct_words(completion: str, enough: int = 30) -> float:
    """Share of words that are new; a story of fewer than `enough` words can't reach 1."""
    words = _words(completion)
    return len(set(words)) / max(len(words), enough)


def names(thing: str, completion: str) -> float:
    """Whether `thing` is one of the words, in the singular or the plural."""
    return float(bool({thing, f"{thing}s"} & set(_words(completion))))


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())
