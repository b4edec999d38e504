"""What a command logs, in printable lines on standard error."""

import logging

from gspo_rs.cli.terminal import one_line


class Formatter(logging.Formatter):
    """Formats each record in one printable line; a traceback follows as it is."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 # logging's name
        """Return the line of a record."""
        return one_line(super().formatMessage(record))


def show(layout: str) -> None:
    """Write what `gspo_rs` notes, and what anybody warns of, as `layout` says."""
    handler = logging.StreamHandler()
    handler.setFormatter(Formatter(layout))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    logging.getLogger("gspo_rs").setLevel(logging.INFO)
    # Warnings quote names of columns and files, too.
    logging.captureWarnings(capture=True)
