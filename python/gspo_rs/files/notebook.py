"""Summaries as tables in a notebook; texts of others are shown, never obeyed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

__all__ = ["as_html", "facts_html"]


def as_html(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table.

    Examples
    --------
    >>> as_html(["rule"], [["<b>"]])
    '<table><thead><tr><th>rule</th></tr></thead><tbody><tr><td>&lt;b&gt;</td></tr></tbody></table>'
    """
    titles = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(_shown(value))}</td>' for value in row)}</tr>" for row in rows
    )
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"


def facts_html(title: str, facts: Mapping[str, object]) -> str:
    """Return a table of two columns, a name and a value, without what is None."""
    return as_html(
        [title, ""], [(name, value) for name, value in facts.items() if value is not None]
    )


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_shown(one)}" for key, one in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(_shown, value))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
