"""`gspo-rs doctor`: checks of your own loss or advantage function."""

from typing import Literal

from gspo_rs.cli.errors import FAILED, command
from gspo_rs.cli.exits import refuse_exits
from gspo_rs.cli.outcome import Outcome


@command("`gspo-rs doctor {function}` starts again", summarized=True)
def doctor(function: str, *, kind: Literal["loss", "advantage"] | None = None) -> Outcome:
    """Check your own loss or advantage function and list what is wrong.

    Parameters
    ----------
    function
        As module:function or file.py:function. A loss takes (logprobs, old_logprobs, advantages,
        mask), padded tensors, and returns a scalar; an advantage takes (rewards, groups), arrays.
    kind
        Kind of the function; needed only if its number of arguments leaves it open.
    """
    refuse_exits()
    # Seconds of imports that `--help` should not wait for.
    from gspo_rs.conformance.doctor import doctor as check

    report = check(function, kind)
    facts = {
        "verb": "doctor",
        "kind": report.kind,
        "nature": report.nature,
        "findings": [str(found) for found in report.findings],
    }
    code = FAILED if report.findings else 0
    return Outcome([], facts, result=f"{report}\n", code=code)
