"""JSON that ends with a digest of all bytes that it is in, so that every change is detected."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

__all__ = ["blank", "seal", "sealed", "unseal"]

# What stands for the digest while it is computed.
_BLANK = "0" * 64


def seal(values: Mapping[str, Any]) -> str:
    """Return `values` as one line of JSON whose last key is ``digest``.

    Examples
    --------
    >>> unseal(seal({"rows": 2}))
    {'rows': 2}
    """
    return sealed(blank(values).encode()).decode()


def blank(values: Mapping[str, Any]) -> str:
    """Return `values` as JSON that has a place for the digest of what it will stand in."""
    return json.dumps({**values, "digest": _BLANK}) + "\n"


def sealed(content: bytes) -> bytes:
    """Return bytes with their digest where `blank` has left a place for it."""
    before, _, after = content.rpartition(_BLANK.encode())
    return before + _digest(content).encode() + after


def unseal(text: str, content: bytes | None = None) -> dict[str, Any]:
    """Read JSON that was `sealed`.

    Parameters
    ----------
    text : str
    content : bytes, optional
        What it stands in; the text alone by default.

    Raises
    ------
    ValueError
        If it is no such JSON, or one byte of the content is another.
    """
    values = json.loads(text)
    digest = values.pop("digest", None) if isinstance(values, dict) else None
    if not isinstance(digest, str) or not digest:
        raise ValueError("its digest is gone")
    whole = text.encode() if content is None else content
    if _digest(whole.replace(digest.encode(), _BLANK.encode())) != digest:
        raise ValueError("its digest is another one; it was damaged or edited")
    found: dict[str, Any] = values
    return found


def _digest(content: bytes) -> str:
    """Return the SHA-256 of bytes whose own digest is blank."""
    return hashlib.sha256(content).hexdigest()
