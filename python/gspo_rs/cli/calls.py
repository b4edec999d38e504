"""Commands that hand their options on to the function of their name in the library."""

from collections.abc import Callable, Mapping
from functools import wraps
from importlib import import_module
from inspect import signature
from typing import Any

from gspo_rs.cli.errors import command
from gspo_rs.cli.names import named, place
from gspo_rs.cli.outcome import Outcome

__all__ = ["calls"]

# Options that name columns, or what else is joined by commas.
NAMES = ("by", "columns", "drop", "key", "once", "per", "without")


def calls(
    module: str,
    ended: Callable[[Any, Mapping[str, Any]], Outcome],
    *,
    stopped: str = "stopped; {target} is as it was",
    taken: Callable[[dict[str, Any]], dict[str, Any]] = dict,
    instead: Callable[[Mapping[str, Any]], Outcome | None] = lambda _: None,
) -> Callable[[Callable[..., None]], Callable[..., int]]:
    """Turn a signature into a command that calls the function of its name in `gspo_rs`.

    Parameters
    ----------
    module : str
        Where the function is, below `gspo_rs`.
    ended : callable
        Returns what the command says at its end, of what the function returned and the options.
    stopped : str
        As in `gspo_rs.cli.errors.command`.
    taken : callable
        Returns what the function takes of the options that were given, if that is something else.
    instead : callable
        Returns the end of the command where the options ask for something else than the call.
    """

    def decorate(asked: Callable[..., None]) -> Callable[..., int]:
        @command(stopped, summarized=True)
        @wraps(asked)
        def call(*given: object, **options: object) -> Outcome:
            bound = signature(asked).bind(*given, **options)
            bound.apply_defaults()
            if (end := instead(bound.arguments)) is not None:
                return end
            # None means the function's default.
            chosen = {key: value for key, value in bound.arguments.items() if value is not None}
            parts = chosen.pop("split", None), chosen.pop("grades", None)
            source = place(chosen.pop("source"), *parts)
            chosen |= {key: named(chosen[key], source) for key in NAMES if key in chosen}
            function = getattr(import_module(f"gspo_rs.{module}"), asked.__name__)
            return ended(function(source, **taken(chosen)), chosen)

        return call

    return decorate
