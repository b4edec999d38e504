"""The command line, `gspo-rs`; a command is imported when it is called.

A command imports its library only when it runs, so `--help` and a wrong option are fast.
"""

import sys
from contextlib import nullcontext
from typing import Any

from cyclopts import App, CycloptsError, CycloptsPanel, UnusedCliTokensError
from rich.text import Text

from gspo_rs.cli.names import with_stdin
from gspo_rs.cli.old_spellings import renewed
from gspo_rs.cli.terminal import printable
from gspo_rs.files.termination import answer_signals


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
    help="Post-train language models with groups: sample, score, compare, teach.",
    error_formatter=_unread,
    suppress_keyboard_interrupt=False,  # SIGTERM has another code
    help_format="plaintext",  # rendering Markdown takes as long as reading the module
)

# Name → the module of `gspo_rs.cli` where the command is, and its line of `--help`.
COMMANDS = {
    "best": (
        "choose",
        "Write the best completions of each group: prompt, completion, reward, keys.",
    ),
    "doctor": ("doctor", "Check your own loss or advantage function and list what is wrong."),
    "explode": ("choose", "Write one row per completion from one row per group with lists."),
    "filter": ("choose", "Write the rows that rules keep, or their row numbers."),
    "nest": ("choose", "Write one row per group, its columns as lists."),
    "pairs": ("choose", "Write preference pairs for DPO: prompt, chosen, rejected, margin, keys."),
    "report": ("report", "Write one HTML page about scored completions."),
    "scan": ("scan", "Show what a source holds, or write its rows into another file."),
    "score": (
        "score",
        "Score completions in files: rank, percentile and advantage in their group.",
    ),
    "stats": ("stats", "Describe scored groups in a table."),
    "train": ("train", "Train a causal language model, online or from scored completions."),
    "verify": ("score", "Check an output of `score` against its manifest."),
    "verl": ("choose", "Write one prompt per group in the schema of verl."),
}
# Name → its arguments, and a command as one would type it.
USAGE = {
    "best": (
        "SOURCE... -o TARGET [--by COLUMNS]",
        'best "scored/*.parquet" -o sft.jsonl --by prompt_id --keep reward:1.. --chat',
    ),
    "doctor": ("FUNCTION", "doctor my_project.losses:policy_loss"),
    "explode": ("SOURCE... -o TARGET", "explode groups.parquet -o rows.parquet"),
    "filter": (
        "SOURCE... -o TARGET [--by COLUMNS] --keep RULES",
        'filter "scored/*.parquet" -o hard.parquet --by prompt_id --keep pass-rate:..0.3',
    ),
    "nest": (
        "SOURCE... -o TARGET [--by COLUMNS]",
        'nest "scored/*.parquet" -o groups.parquet --by prompt_id --once prompt',
    ),
    "pairs": (
        "SOURCE... -o TARGET [--by COLUMNS]",
        'pairs "scored/*.parquet" -o dpo.parquet --by prompt_id --margin 0.2',
    ),
    "report": (
        "SOURCE... [-o report.html] [--by COLUMNS]",
        'report "scored/*.parquet" -o report.html --by prompt_id',
    ),
    "scan": ("SOURCE... [-o TARGET]", "scan runs.jsonl.gz -o runs.parquet"),
    "score": (
        "SOURCE... -o FOLDER [--by COLUMNS]",
        'score "in/*.parquet" -o scored --by prompt_id --estimator rloo',
    ),
    "stats": (
        "SOURCE... [--by COLUMNS]",
        'stats "scored/*.parquet" --by prompt_id --per model',
    ),
    "train": (
        "[FILE]",
        "train --model MODEL --prompts prompts.jsonl --reward reward.py:score",
    ),
    "verify": ("FOLDER...", "verify scored"),
    "verl": (
        "SOURCE... -o TARGET [--by COLUMNS]",
        'verl "scored/*.parquet" -o train.parquet --by prompt_id --ground-truth answer '
        "--data-source openai/gsm8k",
    ),
}
# Commands that run other people's code, whose output is shown at once.
FOREIGN = (["doctor"], ["train"])
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
    help="Let your shell complete commands and options; says which files it writes.",
)


def main() -> None:
    """Run the command line; the entry point of `gspo-rs`."""
    answer_signals()
    from gspo_rs.cli.errors import quiet_panics

    # A name that no encoding can write is still shown.
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    with nullcontext() if sys.argv[1:2] in FOREIGN else quiet_panics():
        sys.exit(_run())


def _run() -> Any:
    try:
        if (answer := renewed(sys.argv[1:])) is not None:
            sys.stderr.write(f"{printable(answer)}\n")
            return 2
        return app(with_stdin(sys.argv[1:]))
    except KeyboardInterrupt:
        # Before or after a command's work; the command itself says how to continue.
        from gspo_rs.cli.errors import interrupted

        return interrupted("stopped")
    except BaseException as error:
        # Each Rust library has its own class, which is not an `Exception`.
        if type(error).__name__ != "PanicException" or {"-v", "--verbose"} & set(sys.argv):
            raise
        from gspo_rs.cli.errors import panicked

        return panicked(error)
