"""The command line: `gspo-rs`."""

import logging
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from gspo_rs.runfile import load

app = App(
    name="gspo-rs",
    help="Post-train language models with groups: sample, score, compare, teach.",
    version_flags=[],
    help_format="plaintext",  # rendering Markdown takes as long as reading the module
)


@app.command
def train(
    config: Path,
    *,
    resume: bool = False,
    set_: Annotated[list[str] | None, Parameter(name="--set", consume_multiple=True)] = None,
    verbose: Annotated[bool, Parameter(name=["-v", "--verbose"], negative="")] = False,
) -> int:
    """Train a causal language model as a TOML file says.

    Parameters
    ----------
    config
        The TOML file; its keys are the fields of `gspo_rs.train.Config`.
    resume
        Go on from the newest checkpoint in the output folder.
    set_
        key=value pairs that replace keys of the file.
    verbose
        Show where an error comes from.
    """
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    logging.getLogger("gspo_rs").setLevel(logging.INFO)
    try:
        settings = load(config, set_ or [])
        # Seconds of imports that `--help` and a typing mistake should not wait for.
        from transformers.utils.logging import disable_progress_bar

        from gspo_rs import train as training

        disable_progress_bar()  # type: ignore[no-untyped-call] # would cut through the table
        result = training.train(settings, resume=resume)
    except KeyboardInterrupt:
        sys.stderr.write(f"`gspo-rs train {config} --resume` goes on\n")
        return 130
    except (ValueError, TypeError, OSError, ArithmeticError, RuntimeError) as error:
        if verbose:
            raise
        sys.stderr.write(f"error: {_line(error)}\n")
        # A run that diverged was asked for rightly; the rest is bad input.
        return 1 if isinstance(error, RuntimeError | ArithmeticError) else 2
    sys.stdout.write(f"{result.steps} steps; model in {result.final}\n")
    return 0


def _line(error: Exception) -> str:
    """Return the message of an error in one line."""
    text = " ".join(str(error).split()) or "no message"
    name = type(error).__name__
    return text if isinstance(error, ValueError | OSError) else f"{name}: {text}"


def main() -> None:
    """Run the command line; the entry point of `gspo-rs`."""
    code = app()
    sys.exit(code)
