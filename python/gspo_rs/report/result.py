"""The page that was made, as an object that is its file and shows itself in a notebook."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

__all__ = ["Report"]

# Bytes of a page that a notebook takes into itself.
LARGEST = 2_000_000


@dataclass(frozen=True)
class Report:
    """A page, and the file that it was written to.

    It may be given wherever a path may, and has what a `Path` has: ``stat()``, ``read_text()``.

    Attributes
    ----------
    html : str
        The page.
    path : Path or None
        Its file; None if none was asked for.
    """

    html: str = field(repr=False)
    path: Path | None = None

    def __fspath__(self) -> str:
        if self.path is None:
            raise TypeError("this report was not written to a file; name one as the target")
        return str(self.path)

    def __str__(self) -> str:
        return "a report without a file" if self.path is None else str(self.path)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or self.path is None:
            raise AttributeError(f"a report {'' if self.path else 'without a file '}has no {name}")
        return getattr(self.path, name)

    def _repr_html_(self) -> str:
        """Return a frame with the page in it, or where it is if it is large."""
        if len(self.html) > LARGEST:
            return f"<p>The report is too large to be shown here: <code>{escape(str(self))}</code>"
        # Nothing of the page may run or lead elsewhere, whatever the completions say.
        return (
            '<iframe sandbox title="Group report" width="100%" height="640" '
            f'style="border: 1px solid #8888" srcdoc="{escape(self.html)}"></iframe>'
        )
