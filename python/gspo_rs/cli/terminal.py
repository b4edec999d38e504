"""Untrusted text on a terminal: shown as it is, never interpreted."""

from __future__ import annotations

import re

__all__ = ["one_line", "printable"]

# Longest error message in characters: a dozen lines of a terminal.
MOST = 1000

# Control characters, characters that change the writing direction, Unicode's line separators, and
# lone surrogates, which no encoding can write.
_OBEYED = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


def printable(text: str) -> str:
    r"""Escape, as Python does, characters that a terminal would interpret, such as ESC.

    Parameters
    ----------
    text : str
        Text from a file, a column name, a file name, or an error about these.

    Returns
    -------
    str
        One line without characters that move the cursor, colour or delete.

    Examples
    --------
    >>> print(printable("a\x1b[31m\n\u202eb"))
    a\x1b[31m\n\u202eb
    """
    return _OBEYED.sub(lambda found: ascii(found[0])[1:-1], text)


def one_line(text: str, most: int = MOST) -> str:
    r"""Return a message as one printable line; cut the middle if it is longer than `most`.

    Parameters
    ----------
    text : str
        The message; its lines are joined by spaces.
    most : int
        Maximum number of characters shown.

    Returns
    -------
    str

    Examples
    --------
    >>> one_line("the file\n  is wrong")
    'the file is wrong'
    >>> one_line("a" * 30 + "b" * 30, most=20)
    'aaaaaaaaaaaaaa […40 characters left out…] bbbbbb'
    """
    line = printable(re.sub(r"\s*\n\s*", " ", text.strip()))
    if len(line) <= most:
        return line
    # The beginning names the place, the end the remedy.
    end = most // 3
    start = most - end
    return f"{line[:start]} […{len(line) - most:,} characters left out…] {line[-end:]}"
