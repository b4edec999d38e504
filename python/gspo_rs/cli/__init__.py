"""The command line, `gspo-rs`.

Its help is written before anything else is loaded.
"""

import sys

from gspo_rs.cli.overview import shown

__all__ = ["main"]


def main() -> None:
    """Run the command line; the entry point of `gspo-rs`."""
    try:
        if not shown(sys.argv[1:]):
            from gspo_rs.cli.running import run

            run()
    except BrokenPipeError:
        import signal

        from gspo_rs.data.standard_output import give_up_output

        if not give_up_output():
            raise
        sys.exit(128 + signal.SIGPIPE)  # what `head` left unread is no error
