"""Whether a completion has the structure that it was asked for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from gspo_rs.rewards.library.texts import said

__all__ = ["tag_structure", "think_answer_format", "think_format"]

_TAG = re.compile("</?think>|</?answer>")
_WHOLE = re.compile(r"\s*<think>.*</think>\s*<answer>.*</answer>\s*", re.DOTALL)
_ORDER = ["<think>", "</think>", "<answer>", "</answer>"]


def think_format(completions: Sequence[Any], **_: Any) -> list[float]:
    """1 if a completion begins with ``<think>``, once, and closes it, else 0.

    Traps
    -----
    Chat templates such as those of DeepSeek-R1 and Qwen3 end the prompt with ``<think>``: then no
    completion begins with it, and all get 0. Nothing need come after ``</think>``.

    References
    ----------
    ``think_format_reward`` of TRL.

    Examples
    --------
    >>> think_format(completions=["<think>6</think>6", "6"])
    [1.0, 0.0]
    """
    texts = [said(one) for one in completions]
    return [
        float(t.startswith("<think>") and t.count("<think>") == 1 and "</think>" in t)
        for t in texts
    ]


def think_answer_format(completions: Sequence[Any], **_: Any) -> list[float]:
    """1 if a completion is ``<think>…</think>`` and ``<answer>…</answer>``, nothing else, else 0.

    Each tag stands there once. Between and around the two are spaces and line ends at most, and
    what they hold may be empty.

    Traps
    -----
    As of `think_format`; and a policy learns the form within some steps, after which all have 1 and
    groups have no signal: add it to a reward that says what is right.

    References
    ----------
    DeepSeek-R1 (arXiv:2501.12948), section 2.2.2; ``format_reward`` of Open-R1, which asks for line
    ends inside the tags.

    Examples
    --------
    >>> think_answer_format(completions=["<think>3 + 3</think> <answer>6</answer>", "6"])
    [1.0, 0.0]
    """
    return [float(_is_whole(said(one))) for one in completions]


def tag_structure(completions: Sequence[Any], **_: Any) -> list[float]:
    """Give a quarter for each of the tags of thinking and answering that is in its place.

    They are ``<think>``, ``</think>``, ``<answer>`` and ``</answer>``. One is in its place if it
    stands there once, and after all of the others that come before it in this order.

    Traps
    -----
    Tags alone get 1, whatever they hold. A completion that the limit cut off still gets 0.25 for
    beginning to think.

    References
    ----------
    ``tag_count_reward`` of Open-R1, which does not look at the order.

    Examples
    --------
    >>> tag_structure(completions=["<think>3 + 3</think>6", "</think><think>", "<answer>6"])
    [0.5, 0.25, 0.25]
    """
    return [_share_in_place(_TAG.findall(said(one))) for one in completions]


def _is_whole(text: str) -> bool:
    return _TAG.findall(text) == _ORDER and _WHOLE.fullmatch(text) is not None


def _share_in_place(tags: list[str]) -> float:
    found = 0
    for place, tag in enumerate(_ORDER):
        earlier = [number for number, one in enumerate(tags) if one in _ORDER[:place]]
        if tags.count(tag) == 1:
            found += all(number < tags.index(tag) for number in earlier)
    return found / len(_ORDER)
