"""Values of a configuration, converted to the types of its fields or refused."""

import json
import tomllib
import types
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from gspo_rs.groups.synonyms import CHOICES, FIELDS, did_you_mean
from gspo_rs.train.config.config import Config, ConfigError
from gspo_rs.train.config.keys import near_key

__all__ = ["checked", "choices", "in_toml", "parsed", "types_of"]

# Fields whose words are paths or texts, in which a comma is a letter like others.
UNDIVIDED = ("prompts", "rollouts", "eval_prompts", "stop")


def types_of() -> dict[str, Any]:
    """Return the type of each field."""
    return get_type_hints(Config)


def choices(hint: object) -> tuple[Any, ...]:
    """Return the types of a union, or a type alone.

    Examples
    --------
    >>> choices(int | None), choices(str)
    ((<class 'int'>, <class 'NoneType'>), (<class 'str'>,))
    """
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def checked(key: str, value: object, place: str) -> Any:
    """Return `value` converted to the type of the field `key`, or raise naming the place."""
    hints = types_of()
    if key not in hints:
        raise ConfigError(f"{place}: unknown key `{key}`; {near_key(key, hints)}")
    for hint in choices(hints[key]):
        fitted = _fitted(value, hint)
        if fitted is not None:
            return fitted
    if value is None and type(None) in choices(hints[key]):
        return None
    expected = " or ".join(_named(h) for h in choices(hints[key]) if h is not type(None))
    known = [word for h in choices(hints[key]) if get_origin(h) is Literal for word in get_args(h)]
    hint = did_you_mean(value, known, FIELDS.get(key, CHOICES))
    raise ConfigError(f"{place}: {key} = {value!r}: expected {expected}{hint}")


def parsed(key: str, words: Sequence[str] | bool, place: str) -> Any:
    """Return the value that the words of an option give a field, or raise naming the option.

    Parameters
    ----------
    key : str
        A field.
    words : sequence of str or bool
        Several for a list, which may also have commas (but those of paths and stop strings); a bool
        for a flag.
    place : str
        The option, named in errors.

    Returns
    -------
    Any
        Of the field's type.

    Raises
    ------
    ConfigError
        If the words are not of the field's type.

    Examples
    --------
    >>> parsed("by", ["task,item"], "--by"), parsed("learning_rate", ["1e-5"], "--learning-rate")
    (('task', 'item'), 1e-05)
    >>> parsed("advantage_options", ["k=4,baseline=leave_one_out"], "--advantage-options")
    {'k': 4, 'baseline': 'leave_one_out'}
    """
    if isinstance(words, bool):
        return checked(key, words, place)
    hints = choices(types_of()[key])
    several = next((hint for hint in hints if get_origin(hint) is tuple), None)
    if any(get_origin(hint) is dict for hint in hints):
        return checked(key, _table(",".join(words), place), place)
    if several is not None and key not in UNDIVIDED:
        words = [part for word in words for part in word.split(",")]
    if several is not None and (len(words) > 1 or str not in hints):
        kind = get_args(several)[0]
        return checked(key, [_scalar(word, kind) for word in words], place)
    kind = next((hint for hint in hints if hint in (int, float)), str)
    return checked(key, _scalar(words[0], kind), place)


def in_toml(text: str) -> Any:
    """Return the value that a text is in TOML, or the text itself.

    Examples
    --------
    >>> in_toml("[1, 2]"), in_toml("dapo")
    ([1, 2], 'dapo')
    """
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _scalar(word: str, kind: type) -> Any:
    """Return a word as a number, or as it is where it is none: `checked` then refuses it."""
    try:
        return kind(word)
    except ValueError:
        return word


def _table(text: str, place: str) -> dict[str, Any]:
    """Return the pairs of ``k=4,scale=none``, or of an inline table of TOML or of JSON."""
    if text.startswith("{"):
        found = in_toml(text)
        if isinstance(found, str):
            with suppress(ValueError):
                found = json.loads(text)
        if isinstance(found, dict):
            return found
    pairs = [pair.partition("=") for pair in text.split(",")]
    if not all(key.strip() and equals for key, equals, _ in pairs):
        raise ConfigError(f"{place} {text}: write key=value, several with commas")
    return {key.strip(): in_toml(value.strip()) for key, _, value in pairs}


def _fitted(value: Any, hint: Any) -> Any:
    """Return `value` converted to the type `hint`, or None if it does not fit (None never does)."""
    origin = get_origin(hint)
    if origin is Literal:
        return value if isinstance(value, str) and value in get_args(hint) else None
    if origin is tuple:
        kind = get_args(hint)[0]
        fitted = [_fitted(v, kind) for v in value] if isinstance(value, list | tuple) else [None]
        return None if None in fitted else tuple(fitted)
    if origin is dict:
        return dict(value) if isinstance(value, Mapping) else None
    if hint is float and type(value) is int:
        return float(value)
    return value if type(value) is hint else None


def _named(hint: Any) -> str:
    origin = get_origin(hint)
    if origin is Literal:
        return f"one of {', '.join(map(repr, get_args(hint)))}"
    if origin is tuple:
        return f"a list of {'strings' if get_args(hint)[0] is str else 'numbers'}"
    if origin is dict:
        return "a table"
    return {str: "a string", int: "an integer", float: "a number", bool: "true or false"}[hint]
