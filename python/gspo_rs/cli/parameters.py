"""Parameters that commands share, each with its `--help` text: one option, one meaning."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter, Token

from gspo_rs.cli.names import STDIN


def _whole(_: type, tokens: Sequence[Token]) -> int:
    """Parse an integer; cyclopts would round 1.5 to 2."""
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError(f"{tokens[0].value!r} is no whole number") from None


def _numbers(_: type, tokens: Sequence[Token]) -> list[float]:
    """Parse numbers that are joined by commas, or given one by one."""
    return [float(number) for token in tokens for number in token.value.split(",")]


def _sources(_: type, tokens: Sequence[Token]) -> list[str]:
    return ["-" if token.value == STDIN else token.value for token in tokens]


def _output(meaning: str) -> Parameter:
    return Parameter(name=["-o", "--output"], help=meaning)


def _flag(meaning: str, *names: str) -> Parameter:
    return Parameter(name=names or None, negative="", show_default=False, help=meaning)


def _names(meaning: str) -> Parameter:
    return Parameter(negative="", help=f"{meaning}; joined by commas, or repeat the option.")


# Copies of the types in `gspo_rs.files`: importing those would load NumPy.
Layout = Literal["wide", "narrow"]
Strategy = Literal["best_worst", "all", "best_random"]

Whole = Annotated[int, Parameter(converter=_whole)]

Sources = Annotated[
    list[str],
    Parameter(
        negative="",
        converter=_sources,
        help="Files, globs, folders or addresses; - for JSON Lines on standard input.",
    ),
]
Target = Annotated[Path, _output("The file to write: .parquet, .jsonl or .ndjson.")]
Folder = Annotated[
    Path,
    _output(
        "The folder to write, or the .parquet file for one file of rows; an old one is kept until "
        "the new one is complete."
    ),
]
OfParts = _output("The folder to write, by whole parts; one of the same run is taken up.")
Copy = Annotated[
    Path | None, _output("Write the rows into this file instead: .parquet, .jsonl or .ndjson.")
]
Page = Annotated[Path, _output("The HTML file to write.")]
# Without these two a function looks for the columns of a tool that it knows.
By = Annotated[
    list[str] | None,
    _names(
        "Columns that name a row's group; not needed where a row is a whole group, or where the "
        "columns are those of a tool that is known"
    ),
]
Split = Annotated[str | None, Parameter(help="Part of a data set that has several, such as train.")]
Grades = Annotated[
    Path | None,
    Parameter(help="Folder that `gspo-rs grade` wrote: its rewards are those of the rows."),
]
Columns = Annotated[list[str] | None, _names("Columns to take; all by default")]
Drop = Annotated[list[str] | None, _names("Columns of the input that a wide output is without")]
Estimators = Annotated[
    list[str] | None,
    _names(
        "Advantage estimators, such as percentile, zscore or rloo; percentile by default, and of "
        "several a column each"
    ),
]
Beside = Annotated[list[str] | None, _names("More columns to write")]
Per = Annotated[
    list[str] | None, _names("Columns whose values, such as tasks, get a line each in a table")
]
Several = Annotated[list[str] | None, Parameter(negative="")]
Numbers = Annotated[list[float] | None, Parameter(negative="", converter=_numbers)]
Reward = Annotated[
    str | None,
    Parameter(help="Column of the rewards; `reward`, or that of a tool that is known, by default."),
]
Prompt = Annotated[str | None, Parameter(help="Column of the prompts; `prompt` by default.")]
Completion = Annotated[
    str | None,
    Parameter(help="Column of the completions; `completion` or `response` by default."),
]
ModelColumn = Annotated[
    str | None,
    Parameter(
        help="Column of the model that wrote the completion; `source` or `model` by default."
    ),
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
Chat = Annotated[bool, _flag("Write texts as lists of chat messages.")]
AllowEmpty = Annotated[bool, _flag("Write zero rows, where the rules leave none, and exit with 0.")]
DryRun = Annotated[
    bool, _flag("Read and check all that can be, say what would be written, and write nothing.")
]
Overwrite = Annotated[bool, _flag("Replace an existing output; inputs are never replaced.")]
Quiet = Annotated[
    bool, _flag("Print no summary and no progress; errors, warnings and results stay.")
]
Json = Annotated[bool, _flag("Print the summary as one JSON object.", "--json")]
Verbose = Annotated[bool, _flag("Show the traceback of an error.", "-v", "--verbose")]
