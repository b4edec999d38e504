"""Run files: the TOML of `gspo-rs train`, parsed into a `Config`."""

import dataclasses
import tomllib
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from gspo_rs.data.paths import remote
from gspo_rs.groups.synonyms import CHOICES, FIELDS, did_you_mean
from gspo_rs.train.config.config import Config, ConfigError
from gspo_rs.train.config.keys import near_key

# Fields that hold a path or glob of their own.
_PATHS = ("output_dir", "prompts", "rollouts", "spill_directory", "eval_prompts")


def load(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    r"""Read a configuration from a TOML file.

    Parameters
    ----------
    path : str or Path
        A flat TOML file whose keys are the fields of `Config`. Relative paths in it, those of a
        reward ``file.py:function`` and of a `model` directory that exists included, are taken from
        the folder of the file.
    overrides : sequence of str
        ``key=value`` pairs that replace keys of the file. A value is TOML, or else a plain string;
        its relative paths are taken from the current folder.

    Returns
    -------
    Config
        Not yet resolved.

    Raises
    ------
    ConfigError
        For a file that is not there or not TOML, an unknown key (with the nearest right one), a
        value of another type or out of range, and an override without ``=``.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "run.toml"
    ...     _ = file.write_text('model = "gpt2"\nlearning_rate = 1e-5\n')
    ...     load(file, ["seed=7"]).seed
    7
    """
    path = Path(path)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
    values = {key: _checked(key, value, str(path)) for key, value in table.items()}
    values = _placed(values, path.parent)
    replaced = dict(_override(item) for item in overrides)
    values |= _placed(replaced, Path())
    if "model" not in values:
        raise ConfigError(f"{path}: the key `model` is missing")
    try:
        return Config(**values)
    except ConfigError as error:
        key = str(error).split(" ", 1)[0]
        raise ConfigError(f"{'--set' if key in replaced else path}: {error}") from error


def from_dict(values: Mapping[str, Any], place: str) -> Config:
    """Build a `Config` from plain values, such as those parsed from JSON.

    Parameters
    ----------
    values : mapping
        Fields of `Config`; lists stand for tuples.
    place : str
        Named in errors.

    Returns
    -------
    Config
        Equal to the one whose `dataclasses.asdict` the values are.

    Raises
    ------
    ConfigError
        For an unknown key or a value of another type.

    Examples
    --------
    >>> from_dict({"model": "gpt2", "by": ["task", "item"]}, "state.json").by
    ('task', 'item')
    """
    return Config(**{key: _checked(key, value, place) for key, value in values.items()})


def _override(item: str) -> tuple[str, Any]:
    key, equals, text = item.partition("=")
    if not equals:
        raise ConfigError(f"--set {item}: write key=value")
    key, text = key.strip(), text.strip()
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    return key, _checked(key, value, "--set")


def _checked(key: str, value: object, place: str) -> Any:
    """Return `value` converted to the type of the field `key`, or raise naming the place."""
    hints = get_type_hints(Config)
    if key not in hints:
        raise ConfigError(f"{place}: unknown key `{key}`; {near_key(key, hints)}")
    for hint in _choices(hints[key]):
        fitted = _fitted(value, hint)
        if fitted is not None:
            return fitted
    if value is None and type(None) in _choices(hints[key]):
        return None
    expected = " or ".join(_named(h) for h in _choices(hints[key]) if h is not type(None))
    known = [word for h in _choices(hints[key]) if get_origin(h) is Literal for word in get_args(h)]
    hint = did_you_mean(value, known, FIELDS.get(key, CHOICES))
    raise ConfigError(f"{place}: {key} = {value!r}: expected {expected}{hint}")


def _choices(hint: object) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


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


def _placed(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Resolve the relative paths among `values` against `folder`."""

    def place(path: str) -> str:
        return path if remote(path) else str(folder / path)

    placed = dict(values)
    for key in _PATHS:
        value = values.get(key)
        if isinstance(value, tuple):
            placed[key] = tuple(map(place, value))
        elif value is not None:
            placed[key] = place(value)
    rewards = values.get("reward") or ()
    if isinstance(rewards, str):
        placed["reward"] = _function(rewards, folder)
    elif rewards:
        placed["reward"] = tuple(_function(spec, folder) for spec in rewards)
    # A hub name looks like a relative path; only a folder that is there is one.
    if "model" in values and (folder / values["model"]).is_dir():
        placed["model"] = place(values["model"])
    return placed


def _function(spec: str, folder: Path) -> str:
    """Resolve the file of a function against `folder`, if it names a file."""
    source, _, function = spec.rpartition(":")
    return f"{folder / source}:{function}" if source.endswith(".py") else spec


def placed(config: Config, folder: Path) -> Config:
    """Resolve the relative paths of a configuration against a folder.

    Parameters
    ----------
    config : Config
        Its `model` is a path if there is such a folder; addresses stay.
    folder : Path
        Absolute.

    Returns
    -------
    Config
        That means the same whatever the working directory becomes.

    Examples
    --------
    >>> found = placed(Config(model="gpt2", prompts="p.jsonl", reward="r.py:score"), Path("/a"))
    >>> found.model, found.prompts, found.reward
    ('gpt2', '/a/p.jsonl', '/a/r.py:score')
    """
    return dataclasses.replace(config, **_placed(vars(config), folder))


def changed(config: Config, other: Config, free: frozenset[str]) -> list[str]:
    """Return the fields in which two configurations differ, except the `free` ones.

    Parameters
    ----------
    config, other : Config
        Both resolved, or both not.
    free : frozenset of str
        Fields that may differ.

    Returns
    -------
    list of str
        In the order of the fields.

    Examples
    --------
    >>> changed(Config(model="a", seed=1), Config(model="a", seed=2), frozenset())
    ['seed']
    """
    names = [field.name for field in dataclasses.fields(Config) if field.name not in free]
    return [name for name in names if getattr(config, name) != getattr(other, name)]
