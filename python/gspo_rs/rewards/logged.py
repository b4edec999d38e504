"""What reward functions log beside rewards: metrics, and columns of the completions.

The signatures are TRL's [1]_: ``log_metric(name, value)`` and ``log_extra(column, values)``.

References
----------
.. [1] TRL, "GRPO Trainer: using a custom reward function".
"""

from __future__ import annotations

import json
import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from gspo_rs.groups.checks import is_missing, is_rounded
from gspo_rs.rewards.answers import as_list
from gspo_rs.rewards.errors import RewardError

__all__ = ["Log", "Logged"]


@dataclass(frozen=True)
class Logged:
    """What was logged for some completions.

    Attributes
    ----------
    metrics : mapping of str to list of float
        By name the value of each call, finite or NaN.
    extra : mapping of str to list, each of one entry for each completion
        By column. All entries are bools, floats, or texts; None where there is none.
    """

    metrics: Mapping[str, list[float]] = field(default_factory=dict)
    extra: Mapping[str, list[Any]] = field(default_factory=dict)


class Log:
    """Collects what one reward function logs while it is called.

    Parameters
    ----------
    function : str
        What errors call it.

    Examples
    --------
    >>> log = Log("reward function half")
    >>> log.log_metric("right", 0.5)
    >>> log.log_extra("words", [3, None])
    >>> log.closed(2)
    Logged(metrics={'right': [0.5]}, extra={'words': [3.0, None]})
    """

    def __init__(self, function: str) -> None:
        self._function = function
        self._metrics: list[tuple[Any, Any]] = []
        self._extra: list[tuple[Any, Any]] = []
        self._open = True

    def log_metric(self, name: str, value: float) -> None:
        """Log a number about all completions; several of one name are averaged."""
        self._refuse_late("log_metric")
        self._metrics.append((name, value))

    def log_extra(self, column: str, values: Sequence[Any]) -> None:
        """Log a value for each completion, which is recorded beside its reward."""
        self._refuse_late("log_extra")
        self._extra.append((column, as_list(values)))

    def closed(self, n: int) -> Logged:
        """Check what was logged for `n` completions and return it; after this nothing is taken.

        Raises
        ------
        RewardError
            If a name is no text, a metric no finite number (NaN says that there is none), or a
            column has not one value for each completion, or values of several kinds. Names the
            function, and the metric or column.
        """
        self._open = False
        metrics: dict[str, list[float]] = {}
        extra: dict[str, list[Any]] = {}
        for name, value in self._metrics:
            metrics.setdefault(self._named("metric", name), []).append(self._number(name, value))
        for name, values in self._extra:
            # A function that works in parts logs in parts.
            extra.setdefault(self._named("column", name), []).extend(self._several(name, values))
        return Logged(metrics, {name: self._column(name, extra[name], n) for name in extra})

    def _refuse_late(self, what: str) -> None:
        if not self._open:
            raise RewardError(f"{self._function} called {what} after it had answered")

    def _named(self, what: str, name: Any) -> str:
        if isinstance(name, str) and name.strip():
            return name
        raise RewardError(f"{self._function} logged a {what} with the name {name!r}; give a text")

    def _number(self, name: str, value: Any) -> float:
        found = _plain(value)
        kind = isinstance(found, numbers.Real | Decimal) and not is_rounded(found)
        number = float(found) if kind else math.inf
        if math.isinf(number):
            raise RewardError(
                f"{self._function} logged {value!r} ({type(value).__name__}) as metric {name!r};"
                " a metric is a finite number, or NaN where there is none"
            )
        return number

    def _several(self, name: str, values: Any) -> list[Any]:
        if isinstance(values, list):
            return values
        raise RewardError(
            f"{self._function} logged a {type(values).__name__} as column {name!r}; give a list"
            " with a value for each completion"
        )

    def _column(self, name: str, values: list[Any], n: int) -> list[Any]:
        if len(values) != n:
            raise RewardError(
                f"{self._function} logged {len(values)} values of column {name!r} for {n}"
                " completions; give one for each, or None"
            )
        found = [self._entry(name, value) for value in values]
        kinds = {type(value): value for value in found if value is not None}
        if len(kinds) > 1:
            one, other = list(kinds.values())[:2]
            raise RewardError(
                f"{self._function} logged {one!r} and {other!r} in column {name!r}; give values of"
                " one kind: numbers, bools or texts"
            )
        return found

    def _entry(self, name: str, value: Any) -> bool | float | str | None:
        """Return a value as a bool, number or text; what is nested as JSON."""
        found = _plain(value)
        if found is None or isinstance(found, bool | str):
            return found
        if isinstance(found, numbers.Real | Decimal):
            if not is_rounded(found):
                return float(found)
            raise RewardError(
                f"{self._function} logged {value!r} in column {name!r}, which float64 would round;"
                " log it as text"
            )
        try:
            return json.dumps(found, ensure_ascii=False)
        except (TypeError, ValueError) as error:
            raise RewardError(
                f"{self._function} logged {value!r} ({type(value).__name__}) in column {name!r};"
                " give numbers, bools, texts, or what JSON can hold"
            ) from error


def _plain(value: Any) -> Any:
    """Return a value of Python: of an array or a scalar of NumPy or torch what it holds."""
    found = value.tolist() if hasattr(value, "tolist") else value
    return None if is_missing(found) else found
