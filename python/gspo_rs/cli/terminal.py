"""Text of other people on a terminal: shown as it is, never obeyed."""

from __future__ import annotations

import re

__all__ = ["one_line", "printable"]

# Characters of a line that says what is wrong: a dozen lines of a terminal.
MOST = 1000

# Control characters, those that turn the direction of what follows, line ends of Unicode's own, and
# halves of surrogate pairs, which no encoding can write.
_OBEYED = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


def printable(text: str) -> str:
    r"""Write what a terminal would obey, such as ESC, the way Python writes it.

    Parameters
    ----------
    text : str
        From a file, a column, the name of a file, or an error about these.

    Returns
    -------
    str
        In one line, without any character that moves, colours or deletes.

    Examples
    --------
    >>> print(printable("a\x1b[31m\n\u202eb"))
    a\x1b[31m\n\u202eb
    """
    return _OBEYED.sub(lambda found: ascii(found[0])[1:-1], text)


def one_line(text: str, most: int = MOST) -> str:
    r"""Return a message in one printable line; one longer than `most` loses its middle.

    Parameters
    ----------
    text : str
        The message; its lines are joined by spaces.
    most : int
        Characters that are shown.

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
