"""The application of cyclopts, which reads the words of a command line and calls the command.

A command is imported when it is called, and imports its library only when it runs, so the help of a
command and a wrong option are fast.
"""

from typing import Any

from cyclopts import App, CycloptsError, CycloptsPanel, UnusedCliTokensError
from rich.text import Text

from gspo_rs.cli.commands import COMMANDS, OPTIONS, SUMMARY, USAGE
from gspo_rs.cli.terminal import printable

__all__ = ["app"]


def _unread(error: CycloptsError) -> Any:
    """Explain arguments that no parameter takes, which are often the files of a glob."""
    files = [word for word in error.unused_tokens or [] if not word.startswith("-")]
    if not isinstance(error, UnusedCliTokensError) or not files:
        return CycloptsPanel(error)
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return Text(
        f"error: {printable(files[0])}{more} comes after the last file that the command takes; "
        "nothing was written. Quote a glob, or the shell expands it into the files it matches"
    )


def _version() -> str:
    from gspo_rs._core import __version__  # three times as fast as the metadata, and no copy

    return f"gspo-rs {__version__}"


app = App(
    name="gspo-rs",
    version=_version,
    help=SUMMARY,
    error_formatter=_unread,
    suppress_keyboard_interrupt=False,  # SIGTERM has another code
    help_format="plaintext",  # rendering Markdown takes as long as reading the module
)

for name, (module, line) in COMMANDS.items():
    arguments, example = USAGE[name]
    app.command(
        f"gspo_rs.cli.{module}:{name}",
        name=name,
        help=line,
        usage=f"Usage: gspo-rs {name} {arguments} [OPTIONS]",
        help_epilogue=f"Example: gspo-rs {example}",
    )


# Its module loads what writes the scripts of the shells.
app.command(
    "gspo_rs.cli.completion:install",
    name="--install-completion",
    help=OPTIONS["--install-completion"],
)
