"""Run files in YAML: the keys and values of a TOML file in another spelling."""

from pathlib import Path
from typing import Any

from gspo_rs.train.config.config import ConfigError
from gspo_rs.train.config.typed import choices, types_of

__all__ = ["read"]


def read(path: Path) -> dict[str, Any]:
    r"""Read a flat YAML file.

    Parameters
    ----------
    path : Path
        Its keys are fields of `Config`.

    Returns
    -------
    dict
        Plain values. ``1e-5``, which is a text in YAML 1.1, is the number that it looks like where
        a field is one.

    Raises
    ------
    ConfigError
        If the file is not YAML, has no keys, or has one twice, of which YAML would take the last;
        or if PyYAML is not installed.
    OSError
        If it can't be read.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "run.yaml"
    ...     _ = file.write_text("model: gpt2\nlearning_rate: 1e-5\n")
    ...     read(file)
    {'model': 'gpt2', 'learning_rate': 1e-05}
    """
    try:
        import yaml
    except ImportError:
        remedy = "pip install 'gspo_rs[train]'"
        raise ConfigError(f"{path}: YAML is read by PyYAML: {remedy}, or write TOML") from None
    text = path.read_text(encoding="utf-8")
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        table = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: holds no keys; write one `key: value` a line")
    names = [key.value for key, _ in node.value]
    if twice := [name for place, name in enumerate(names) if name in names[:place]]:
        raise ConfigError(f"{path}: the key `{twice[0]}` is there twice; leave one")
    return {str(key): _number(str(key), value) for key, value in table.items()}


def _number(key: str, value: Any) -> Any:
    """Return the number that a text is, if the field `key` is a number."""
    if not isinstance(value, str) or float not in choices(types_of().get(key)):
        return value
    try:
        return float(value)
    except ValueError:
        return value
