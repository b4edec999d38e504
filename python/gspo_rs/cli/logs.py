"""Log records of a command, as printable lines on standard error."""

import logging
import sys
from typing import TextIO

from gspo_rs.cli.terminal import one_line


class Formatter(logging.Formatter):
    """Formats each record as one printable line; a traceback follows unchanged."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 # logging's name
        """Return the line of a record."""
        return one_line(super().formatMessage(record))


class Handler(logging.StreamHandler[TextIO]):
    """Writes to what standard error is at the moment: a live display moves it above itself."""

    @property
    def stream(self) -> TextIO:
        """Standard error."""
        return sys.stderr

    @stream.setter
    def stream(self, stream: TextIO) -> None:
        """Ignore the one that standard error was."""


def show(layout: str) -> None:
    """Print log records of `gspo_rs`, and warnings of any library, in the format `layout`."""
    handler = Handler()
    handler.setFormatter(Formatter(layout))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    logging.getLogger("gspo_rs").setLevel(logging.INFO)
    # Warnings quote names of columns and files, too.
    logging.captureWarnings(capture=True)
