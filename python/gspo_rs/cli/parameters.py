"""Parameters that several commands share, with the line that `--help` has for each."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter, Token


def _whole(_: type, tokens: Sequence[Token]) -> int:
    """Read a whole number; cyclopts rounds 1.5 to 2."""
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError(f"{tokens[0].value!r} is no whole number") from None


# Those of files that are scored and of pairs, again: to import these would load NumPy.
Layout = Literal["wide", "narrow"]
Strategy = Literal["best_worst", "all", "best_random"]

Whole = Annotated[int, Parameter(converter=_whole)]

Source = Annotated[str, Parameter(help="A file or a glob: .parquet, .jsonl, .ndjson or .csv.")]
Target = Annotated[Path, Parameter(help="The file to write: .parquet, .jsonl or .ndjson.")]
By = Annotated[
    list[str],
    Parameter(negative="", help="The column that names the group of a row; repeat it for several."),
]
Reward = Annotated[str, Parameter(help="Column of the rewards.")]
Prompt = Annotated[str | None, Parameter(help="Column of the prompts; `prompt` by default.")]
Completion = Annotated[
    str | None,
    Parameter(help="Column of the completions; `completion` or `response` by default."),
]
Keep = Annotated[
    str,
    Parameter(
        help="Rules such as informative,pass-rate:0.1..0.9,top:0.25; a wrong one lists the right."
    ),
]
Threshold = Annotated[
    float | None,
    Parameter(help="For pass-rate: a completion is right from this reward on; 0.5 by default."),
]
Chat = Annotated[bool, Parameter(negative="", help="Turn texts into lists of messages.")]
Once = Annotated[list[str] | None, Parameter(negative="")]
Overwrite = Annotated[
    bool,
    Parameter(negative="", help="Replace what is there; what is read is never replaced."),
]
Verbose = Annotated[
    bool,
    Parameter(name=["-v", "--verbose"], negative="", help="Show where an error comes from."),
]
