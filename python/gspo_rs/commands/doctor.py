"""`gspo-rs doctor`."""

import sys
from typing import Annotated, Literal

from cyclopts import Parameter

from gspo_rs.commands.exits import refuse_exits
from gspo_rs.commands.outcome import FAILED, TOLD, exited, interrupted, told


def doctor(
    function: str,
    *,
    kind: Literal["loss", "advantage"] | None = None,
    verbose: Annotated[bool, Parameter(name=["-v", "--verbose"], negative="")] = False,
) -> int:
    """Say what is wrong with a loss or an advantage function of your own.

    Parameters
    ----------
    function
        As module:function or file.py:function. A loss takes (logprobs, old_logprobs, advantages,
        mask), padded tensors, and returns a scalar; an advantage takes (rewards, groups), arrays.
    kind
        What it is, where the number of its arguments does not tell.
    verbose
        Show where an error comes from.
    """
    refuse_exits()
    try:
        # Seconds of imports that `--help` should not wait for.
        from gspo_rs.conformance import check
        from gspo_rs.rewards import load

        report = check(load(function, what=kind or "function"), kind)
    except KeyboardInterrupt:
        return interrupted(f"`gspo-rs doctor {function}` starts again")
    except SystemExit as end:
        return exited(end)
    except TOLD as error:
        return told(error, verbose=verbose)
    sys.stdout.write(f"{report}\n")
    return FAILED if report.findings else 0
