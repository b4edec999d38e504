"""The command line: `gspo-rs`. A command is loaded when it is called."""

import sys

from cyclopts import App

app = App(
    name="gspo-rs",
    help="Post-train language models with groups: sample, score, compare, teach.",
    version_flags=[],
    help_format="plaintext",  # rendering Markdown takes as long as reading the module
)

# Name → the line of `--help`; the command is `gspo_rs.commands.NAME:NAME`.
COMMANDS = {
    "score": "Score completions in files: rank, percentile and advantage in their group.",
    "train": "Train a causal language model as a TOML file says.",
    "verify": "Check an output of `score` against its manifest.",
}
for name, line in COMMANDS.items():
    app.command(f"gspo_rs.commands.{name}:{name}", name=name, help=line)


def main() -> None:
    """Run the command line; the entry point of `gspo-rs`."""
    code = app()
    sys.exit(code)
