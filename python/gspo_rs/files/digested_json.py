"""JSON that ends with a digest of its own bytes, so that every change is detected."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

__all__ = ["seal", "unseal"]

# What stands for the digest while it is computed.
_BLANK = "0" * 64


def seal(values: Mapping[str, Any], *, indent: int | None = None) -> str:
    """Return `values` as JSON whose last key is ``digest``.

    Examples
    --------
    >>> unseal(seal({"rows": 2}))
    {'rows': 2}
    """
    text = json.dumps({**values, "digest": _BLANK}, indent=indent) + "\n"
    return text.replace(_BLANK, _digest(text))


def unseal(text: str) -> dict[str, Any]:
    """Read JSON that `seal` wrote.

    Raises
    ------
    ValueError
        If it is no such JSON, or one byte of it is another.
    """
    values = json.loads(text)
    digest = values.pop("digest", None) if isinstance(values, dict) else None
    if not isinstance(digest, str) or _digest(text.replace(digest, _BLANK)) != digest:
        raise ValueError("its digest is another one; it was damaged or edited")
    found: dict[str, Any] = values
    return found


def _digest(text: str) -> str:
    """Return the SHA-256 of a text whose own digest is blank."""
    return hashlib.sha256(text.encode()).hexdigest()
