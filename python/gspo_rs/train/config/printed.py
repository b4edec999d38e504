"""A configuration as the text of a run file that says where every value is from."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gspo_rs.train.config.config import resolve
from gspo_rs.train.config.presets import ALL_OPTIONS, OPTIONS
from gspo_rs.train.config.sections import SECTIONS
from gspo_rs.train.config.toml import Settings, placed

__all__ = ["printed"]

_COLUMN = 46


def printed(settings: Settings) -> str:
    """Return a configuration as TOML, with the values of its preset and the origin of each.

    Parameters
    ----------
    settings : Settings
        A configuration as it was given.

    Returns
    -------
    str
        A run file that means the same, wherever it is put.

    Raises
    ------
    ConfigError
        If the configuration cannot be run.

    Examples
    --------
    >>> from gspo_rs.train.config.config import Config
    >>> text = printed(Settings(Config(model="m", rollouts="/r.parquet", algorithm="dapo"), {}))
    >>> print(next(line for line in text.splitlines() if line.startswith("clip_high")))
    clip_high = 0.28                              # preset dapo
    """
    given = settings.config
    resolved = resolve(given)
    final = placed(resolved, Path.cwd())
    lines = ["# All settings of a run, for `gspo-rs train FILE`."]
    for title, names in SECTIONS.items():
        lines += ["", f"# {title}"]
        for name in names:
            default = "default" if getattr(given, name) == getattr(resolved, name) else None
            origin = settings.origins.get(name) or default or f"preset {given.algorithm}"
            lines.append(_line(name, getattr(final, name), origin, str(resolved.loss)))
    return "\n".join(lines) + "\n"


def as_toml(value: Any) -> str:
    r"""Return a value in the spelling of TOML.

    Examples
    --------
    >>> print(as_toml(("a\x7f", 1e-06)), as_toml({"k": 4, "any key": True}))
    ["a\u007F", 1e-06] { k = 4, "any key" = true }
    """
    if isinstance(value, Mapping):
        pairs = [f"{_key(str(key))} = {as_toml(item)}" for key, item in value.items()]
        return f"{{ {', '.join(pairs)} }}" if pairs else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(as_toml, value))}]"
    if isinstance(value, str):
        # JSON escapes what TOML does, but for this one.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else as_toml(name)


def _line(name: str, value: Any, origin: str, loss: str) -> str:
    """Return the line of a field; a comment where it has no value, which TOML cannot say."""
    if value is not None:
        return f"{f'{name} = {as_toml(value)}':{_COLUMN - 1}} # {origin}"
    if name in ALL_OPTIONS - set(OPTIONS[loss]):
        return f"# {name} is no option of the loss {loss}"
    return f"# {name} is not set"
