"""What a completion says, and the answer that it ends with."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["final_answer", "said"]

_TAGS = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_BOX = "\\boxed{"


def said(completion: Any) -> str:
    """Return the text of a completion: of messages, what the last one says.

    Raises
    ------
    TypeError
        If that is no text; says what it is.

    Examples
    --------
    >>> said("18"), said([{"role": "assistant", "content": "18"}])
    ('18', '18')
    """
    last = completion[-1] if isinstance(completion, list) and completion else completion
    found = last.get("content") if isinstance(last, dict) else last
    if isinstance(found, str):
        return found
    raise TypeError(f"a completion is {type(found).__name__}; this reward reads text or messages")


def final_answer(text: str) -> str | None:
    r"""Return the answer that is marked as such, the last one of its kind; None without a mark.

    Marks, the first of them that there is: a pair of tags ``<answer>``; ``\boxed{}`` with braces
    that close; ``####``, up to the end of its line.

    Examples
    --------
    >>> final_answer("2 + 2 = 5\n#### 4"), final_answer(r"So \boxed{\frac{1}{2}}, not \boxed{0")
    ('4', '\\frac{1}{2}')
    """
    if tagged := _TAGS.findall(text):
        return str(tagged[-1]).strip()
    if (boxed := _last_box(text)) is not None:
        return boxed.strip()
    _, mark, rest = text.rpartition("####")
    return (rest.splitlines() or [""])[0].strip() if mark else None


def _last_box(text: str) -> str | None:
    """Return what is in the last box whose braces close."""
    start = text.rfind(_BOX)
    while start >= 0:
        depth, first = 1, start + len(_BOX)
        for place in range(first, len(text)):
            # Of an escaped brace, \{, which stands for itself, there is one of each as a rule.
            depth += {"{": 1, "}": -1}.get(text[place], 0)
            if depth == 0:
                return text[first:place]
        start = text.rfind(_BOX, 0, start)
    return None
