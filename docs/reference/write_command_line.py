"""Write command_line.md from the commands: `python docs/reference/write_command_line.py`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from gspo_rs.cli.application import app
from gspo_rs.cli.commands import COMMANDS, USAGE
from gspo_rs.cli.errors import EXIT_CODES

# Options that mean the same everywhere, listed once.
EVERYWHERE = ("--overwrite", "--dry-run", "--allow-empty", "--quiet", "--json")
PAGE = Path(__file__).with_name("command_line.md")
BEGIN, END = (f"<!-- written from the commands: {word} -->\n" for word in ("begin", "end"))


def page() -> str:
    """Return the text of the page: what is there, with the lists of today."""
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    return (
        "".join([before, BEGIN, *_codes(), *_shared(), *map(_verb, sorted(COMMANDS)), END])
        + (rest.split(END)[1])
    )


def _codes() -> list[str]:
    rows = [f"| {code} | {meaning} |\n" for code, meaning in EXIT_CODES.items()]
    return ["\n## Exit codes\n\n| code | means |\n|---|---|\n", *rows]


def _shared() -> list[str]:
    output = ("`-o, --output TARGET`", "The file to write; of `score` the folder.")
    rows = [f"| {names} | {meaning} |\n" for names, meaning in [output, *dict(_common()).values()]]
    title = "\n## Options of several verbs\n\nEach means the same wherever it is.\n\n"
    return [title, "| option | meaning |\n|---|---|\n", *rows]


def _common() -> Iterator[tuple[str, tuple[str, str]]]:
    for verb in ("filter", "score"):
        for argument in _arguments(verb):
            if argument.names[-1] in (*EVERYWHERE, "--verbose"):
                yield argument.names[-1], (_names(argument), argument.parameter.help)


def _verb(verb: str) -> str:
    arguments, example = USAGE[verb]
    usage = f"```text\ngspo-rs {verb} {arguments} [OPTIONS]\n```\n"
    text = f"\n## {verb}\n\n{COMMANDS[verb][1]}\n\n{usage}"
    if verb == "train":
        return (
            f"{text}\nExample: `gspo-rs {example}`. `gspo-rs train --help-all` has all options.\n"
        )
    rows = [
        f"| {_names(argument)} | {_meaning(argument)} |\n"
        for argument in _arguments(verb)
        if argument.names[-1] not in (*EVERYWHERE, "--verbose", "--output")
        and argument.show
        and argument.names[0].startswith("-")
    ]
    table = ["\n| option | meaning |\n|---|---|\n", *rows] if rows else []
    return "".join([text, *table, f"\nExample: `gspo-rs {example}`\n"])


def _arguments(verb: str) -> Any:
    return app[verb].assemble_argument_collection(parse_docstring=True)


def _names(argument: Any) -> str:
    if argument.hint is bool:
        value = ""
    elif get_origin(argument.hint) is Literal:
        value = " " + "\\|".join(map(str, get_args(argument.hint)))
    else:
        value = " " + argument.names[-1].lstrip("-").replace("-", "_").upper()
    return f"`{', '.join(argument.names)}{value}`"


def _meaning(argument: Any) -> str:
    help_, default = argument.parameter.help or "", argument.field_info.default
    empty = (None, False, "", argument.field_info.empty)
    shown = not any(default is one for one in empty) and default != ""
    needed = " Needed." if argument.required else f" Default: `{default}`." if shown else ""
    return " ".join(help_.split()).replace("|", "\\|") + needed


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
