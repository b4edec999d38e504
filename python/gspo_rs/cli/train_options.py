"""The options of `gspo-rs train`: one for each field of `Config`, with its docstring as help."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter as Argument
from inspect import signature
from typing import Annotated, Any, TypeVar, get_args, get_origin

from cyclopts import App, Group, Parameter, Token
from rich.console import Console

from gspo_rs.cli.names import STDIN
from gspo_rs.train.config.config import ConfigError
from gspo_rs.train.config.keys import near_key
from gspo_rs.train.config.sections import MAIN, SECTIONS, default_of, documented, option_of
from gspo_rs.train.config.typed import UNDIVIDED, choices, types_of

__all__ = ["given", "respelled", "show_all", "with_options"]

Work = TypeVar("Work", bound=Callable[..., Any])
# Other spellings of an option.
_ALSO = {"output_dir": ("-o", "--output")}


def with_options(work: Work) -> Work:
    """Give a function that takes ``**fields`` the options of all fields of `Config`.

    Those that are not the main ones are hidden from `--help`. What no option takes is given as it
    is; `given` refuses it.
    """
    work.__signature__ = _with_fields(work, MAIN)  # type: ignore[attr-defined]
    return work


def show_all(work: Callable[..., Any]) -> str:
    """Return the help of a command with the options of all fields."""

    def shown() -> None: ...

    shown.__signature__ = _with_fields(work, frozenset(types_of()))  # type: ignore[attr-defined]
    shown.__doc__ = work.__doc__
    app = App(name="gspo-rs train", help_format="plaintext", version_flags=[], help_flags=[])
    app.default(shown)
    console = Console()
    with console.capture() as captured:
        app.help_print([], console=console)
    return captured.get()


def given(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the words of the options that were given.

    Raises
    ------
    ConfigError
        If there is no such option; names the one that may be meant.
    """
    known = types_of()
    for name in fields:
        if name not in known:
            near = near_key(name, known)
            for key in known:
                near = near.replace(f"`{key}`", f"`{option_of(key)}`")
            raise ConfigError(f"unknown option --{name}; {near}")
    return {name: words for name, words in fields.items() if words is not None}


def respelled(key: str, value: Any) -> str:
    """Return the option that gives a field a value, quoted for a shell.

    Examples
    --------
    >>> respelled("by", ("task", "item")), respelled("torch_compile", False)
    ('--by task,item', '--no-torch-compile')
    """
    option = option_of(key)
    if isinstance(value, bool):
        return option if value else f"--no-{option[2:]}"
    if isinstance(value, Mapping):
        from gspo_rs.train.config.printed import as_toml  # reads data, which help does not need

        return shlex.join([option, as_toml(value)])
    if not isinstance(value, tuple):
        return shlex.join([option, str(value)])
    if key in UNDIVIDED:
        return shlex.join(word for item in value for word in (option, item))
    return shlex.join([option, ",".join(map(str, value))])


def _with_fields(work: Callable[..., Any], shown: frozenset[str]) -> Any:
    own = signature(work)
    arguments = [
        argument
        for name, argument in own.parameters.items()
        if argument.kind is not Argument.VAR_KEYWORD and name not in types_of()
    ]
    for place, (title, names) in enumerate(SECTIONS.items()):
        group = Group(title, sort_key=place + 1)
        arguments += [_option(name, group, show=name in shown) for name in names]
    rest = Annotated[list[str], Parameter(show=False, consume_multiple=True, converter=_as_given)]
    arguments.append(Argument("other", Argument.VAR_KEYWORD, annotation=rest))
    return own.replace(parameters=arguments)


def _option(name: str, group: Group, *, show: bool) -> Argument:
    hint, several = _shown_type(name)
    default = default_of(name)
    known = default not in (None, dataclasses.MISSING, {})
    shown = ",".join(default) if isinstance(default, tuple) else default
    parameter = Parameter(
        name=[option_of(name), *_ALSO.get(name, ())],
        converter=_as_given,
        group=group,
        help=documented()[name] + (f" [default: {shown}]" if known else ""),
        show=show,
        negative=None if hint is bool else "",
        n_tokens=0 if hint is bool else None,
        consume_multiple=several,
    )
    annotation: Any = Annotated[hint | None, parameter]
    return Argument(name, Argument.KEYWORD_ONLY, default=None, annotation=annotation)


def _shown_type(name: str) -> tuple[Any, bool]:
    """Return the type that `--help` shows for a field, and whether several words may follow."""
    hints = [hint for hint in choices(types_of()[name]) if hint is not type(None)]
    several = next((hint for hint in hints if get_origin(hint) is tuple), None)
    if several is not None:
        return list[get_args(several)[0]], True  # type: ignore[misc]
    return (str if get_origin(hints[0]) is dict else hints[0]), False


def _as_given(_: Any, tokens: Sequence[Token]) -> list[str]:
    """Keep the words: `Config` has its own errors for them."""
    return ["-" if token.value == STDIN else token.value for token in tokens]
