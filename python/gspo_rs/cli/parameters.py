"""Parameters that several commands share, with their `--help` texts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter, Token


def _whole(_: type, tokens: Sequence[Token]) -> int:
    """Parse an integer; cyclopts would round 1.5 to 2."""
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError(f"{tokens[0].value!r} is no whole number") from None


# Copies of the types in `gspo_rs.files`: importing those would load NumPy.
Layout = Literal["wide", "narrow"]
Strategy = Literal["best_worst", "all", "best_random"]

Whole = Annotated[int, Parameter(converter=_whole)]

Source = Annotated[str, Parameter(help="A file or a glob: .parquet, .jsonl, .ndjson or .csv.")]
Target = Annotated[Path, Parameter(help="The file to write: .parquet, .jsonl or .ndjson.")]
By = Annotated[
    list[str],
    Parameter(negative="", help="Column that names a row's group; repeat the option for several."),
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
        help="Rules such as informative,pass-rate:0.1..0.9,top:0.25; an unknown one lists all."
    ),
]
Threshold = Annotated[
    float | None,
    Parameter(help="For pass-rate: the lowest reward of a right completion; 0.5 by default."),
]
Chat = Annotated[bool, Parameter(negative="", help="Write texts as lists of chat messages.")]
Once = Annotated[list[str] | None, Parameter(negative="")]
Overwrite = Annotated[
    bool,
    Parameter(negative="", help="Replace an existing output; inputs are never replaced."),
]
Verbose = Annotated[
    bool,
    Parameter(name=["-v", "--verbose"], negative="", help="Show the traceback of an error."),
]
