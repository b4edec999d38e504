"""Run files: the TOML or YAML of `gspo-rs train`, and its options, as a `Config`."""

import dataclasses
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gspo_rs.data.formats import SUFFIXES
from gspo_rs.data.hub import is_hub_name
from gspo_rs.data.paths import remote
from gspo_rs.data.standard_input import DASH
from gspo_rs.train.config import yaml
from gspo_rs.train.config.config import Config, ConfigError
from gspo_rs.train.config.sections import option_of
from gspo_rs.train.config.typed import UNDIVIDED, checked, in_toml, parsed

# Fields that hold a path or glob of their own.
_PATHS = (
    "output_dir",
    "prompts",
    "rollouts",
    "grades",
    "spill_directory",
    "eval_prompts",
    "sampler_folder",
)


@dataclass(frozen=True)
class Settings:
    """A configuration, and where each of its values is from.

    Attributes
    ----------
    config : Config
        Not yet resolved.
    origins : dict of str to str
        The option or the file of each field that was given.
    """

    config: Config
    origins: dict[str, str]


def load(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    r"""Read a configuration from a file.

    Parameters
    ----------
    path : str or Path
        A flat TOML or YAML file whose keys are the fields of `Config`. Relative paths in it, those
        of a function ``file.py:function`` and of a `model` directory that exists included, are
        taken from the folder of the file.
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
        For a file that is not there or cannot be parsed, an unknown key (with the nearest right
        one), a value of another type or out of range, and an override without ``=``.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "run.toml"
    ...     _ = file.write_text('model = "gpt2"\nlearning_rate = 1e-5\n')
    ...     load(file, ["seed=7"]).seed
    7
    """
    return gather(path, overrides).config


def gather(
    path: str | Path | None,
    overrides: Sequence[str] = (),
    options: Mapping[str, Sequence[str] | bool] | None = None,
) -> Settings:
    """Read a configuration from a file, options, or both.

    Parameters
    ----------
    path : str, Path or None
        As for `load`; None where options give everything.
    overrides : sequence of str
        As for `load`.
    options : mapping, optional
        Field → the words of its option; replaces keys of the file and overrides.

    Returns
    -------
    Settings

    Raises
    ------
    ConfigError
        As `load`; names the option.

    Examples
    --------
    >>> found = gather(None, options={"model": ["gpt2"], "seed": ["7"]})
    >>> found.config.seed, found.origins
    (7, {'model': '--model', 'seed': '--seed'})
    """
    table = {} if path is None else _read(Path(path))
    file = str(path)
    values = {key: checked(key, value, file) for key, value in table.items()}
    values = _placed(values, Path(file).parent)
    origins = dict.fromkeys(values, file)
    replaced = dict(_override(item) for item in overrides)
    origins |= dict.fromkeys(replaced, "--set")
    for key, words in (options or {}).items():
        origins[key] = option_of(key)
        replaced[key] = parsed(key, words, origins[key])
    values |= _placed(replaced, Path())
    if "model" not in values:
        raise ConfigError(
            "no model is given; give --model with --prompts and --reward, or with --rollouts"
            if path is None
            else f"{path}: the key `model` is missing; add it, or give --model"
        )
    try:
        return Settings(Config(**values), origins)
    except ConfigError as error:
        key = str(error).split(" ", 1)[0]
        raise ConfigError(f"{origins.get(key, path)}: {error}") from error


def _read(path: Path) -> dict[str, Any]:
    """Read the keys and values of a run file."""
    readers: dict[str, Callable[[Path], dict[str, Any]]] = {
        ".toml": _read_toml,
        ".yaml": yaml.read,
        ".yml": yaml.read,
    }
    if path.suffix.lower() not in readers:
        raise ConfigError(
            f"{path}: a run file is .toml, .yaml or .yml; a model is given as --model"
        )
    try:
        return readers[path.suffix.lower()](path)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error


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
    return Config(**{key: checked(key, value, place) for key, value in values.items()})


def _override(item: str) -> tuple[str, Any]:
    key, equals, text = item.partition("=")
    if not equals:
        raise ConfigError(f"--set {item}: write key=value")
    key = key.strip()
    return key, checked(key, in_toml(text.strip()), "--set")


def _placed(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Resolve the relative paths among `values` against `folder`."""

    def place(path: str, *, data: bool) -> str:
        named = remote(path) or (data and _no_path(path, folder))
        return path if named else str(folder / path)

    placed = dict(values)
    for key in _PATHS:
        value, data = values.get(key), key in UNDIVIDED
        if isinstance(value, tuple):
            placed[key] = tuple(place(item, data=data) for item in value)
        elif value is not None:
            placed[key] = place(value, data=data)
    rewards = values.get("reward") or ()
    if isinstance(rewards, str):
        placed["reward"] = _function(rewards, folder)
    elif rewards:
        placed["reward"] = tuple(_function(spec, folder) for spec in rewards)
    for key in ("rollout", "sampler"):
        if values.get(key) is not None:
            placed[key] = _function(values[key], folder)
    # A name looks like a relative path; only a folder or file that is there is one.
    if "model" in values and (folder / values["model"]).is_dir():
        placed["model"] = place(values["model"], data=False)
    template = values.get("chat_template")
    if template is not None and (folder / template).is_file():
        placed["chat_template"] = place(template, data=False)
    return placed


def _no_path(name: str, folder: Path) -> bool:
    """Return whether a source of rows is standard input, or a data set of the hub."""
    if name == DASH:
        return True
    return is_hub_name(name, SUFFIXES) and not (folder / name).parent.is_dir()


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
