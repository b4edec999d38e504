"""Ready rewards, to be named ``gspo_rs.rewards.library:NAME``.

Each has TRL's signature, reads texts or messages, gives None where there is nothing to compare
with, and says where it comes from and how it is fooled.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gspo_rs.rewards.library.code import code_tests
    from gspo_rs.rewards.library.embeddings import embedding_cosine
    from gspo_rs.rewards.library.formats import tag_structure, think_answer_format, think_format
    from gspo_rs.rewards.library.listed import Ready, listed
    from gspo_rs.rewards.library.matches import exact_match, numeric_match
    from gspo_rs.rewards.library.mathematics import math_match
    from gspo_rs.rewards.library.penalties import overlong_penalty, repetition_penalty
    from gspo_rs.rewards.library.reasoning import reasoning_gym

__all__ = [
    "Ready",
    "code_tests",
    "embedding_cosine",
    "exact_match",
    "listed",
    "math_match",
    "numeric_match",
    "overlong_penalty",
    "reasoning_gym",
    "repetition_penalty",
    "tag_structure",
    "think_answer_format",
    "think_format",
]

# Where each is: a module is loaded with the first of its names, because some load a library.
MODULE_OF = {
    "Ready": "listed",
    "code_tests": "code",
    "embedding_cosine": "embeddings",
    "exact_match": "matches",
    "listed": "listed",
    "math_match": "mathematics",
    "numeric_match": "matches",
    "overlong_penalty": "penalties",
    "reasoning_gym": "reasoning",
    "repetition_penalty": "penalties",
    "tag_structure": "formats",
    "think_answer_format": "formats",
    "think_format": "formats",
}


def __getattr__(name: str) -> Any:
    if name not in MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{MODULE_OF[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *MODULE_OF})
