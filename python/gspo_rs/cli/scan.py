"""`gspo-rs scan`: what a source holds, or its rows in another file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from gspo_rs.cli.errors import command
from gspo_rs.cli.names import named, place
from gspo_rs.cli.outcome import Outcome, counted, of_write
from gspo_rs.cli.parameters import Columns, Copy, DryRun, Overwrite, Sources, Split, Whole
from gspo_rs.cli.terminal import one_line, printable

if TYPE_CHECKING:
    from gspo_rs.files.scan import Contents

# Characters of a value in the table.
MOST = 60


@command("stopped", summarized=True)
def scan(
    source: Sources,
    /,
    *,
    target: Copy = None,
    columns: Columns = None,
    rows: Whole = 3,
    split: Split = None,
    dry_run: DryRun = False,
    overwrite: Overwrite = False,
) -> Outcome:
    """Show what a source holds, or write its rows into another file.

    Parameters
    ----------
    rows
        How many of the first rows to show.
    """
    from gspo_rs.files import scan as library

    given = place(source, split)
    names = named(columns, given)
    if target is not None:
        written = library.scan(given, target, columns=names, dry_run=dry_run, overwrite=overwrite)
        following = ["scan", str(target)]
        return of_write("scan", written, target, following=following, dry_run=dry_run)
    found = library.contents(given, columns=names, rows=rows)
    size = f"{counted(found.rows, 'rows')} of {counted(len(found.columns), 'columns')}"
    lines = [f"{size}; {found.container}"]
    facts = {"verb": "scan", **found.to_dict()}
    return Outcome(lines, facts, result=_table(found))


def _table(found: Contents) -> str:
    """Return a table with one line per column."""
    # Texts of the data are not markup, not :emoji: and not numbers to colour.
    console = Console(markup=False, emoji=False, highlight=False)
    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    shown.add_column("column", overflow="fold")
    shown.add_column("type", overflow="fold")
    for number in range(len(found.first)):
        shown.add_column(f"row {number}", overflow="fold")
    for name, kind in found.columns.items():
        values = [_cell(row[name]) for row in found.first]
        shown.add_row(printable(name), printable(kind), *values)
    with console.capture() as captured:
        console.print(printable(found.name), soft_wrap=True)
        console.print(shown)
    return captured.get()


def _cell(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    return one_line(text, MOST) if len(text) <= MOST else printable(text[: MOST - 1]) + "…"
