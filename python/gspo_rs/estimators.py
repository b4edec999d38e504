"""The names of the advantage estimators, and their options with defaults and limits."""

from __future__ import annotations

import math
import numbers
from typing import Any, Final

from gspo_rs import synonyms

# An option without a default.
REQUIRED: Final = ...

# Estimator → its options with their defaults; the formulas are in docs/estimators.md.
ESTIMATORS: dict[str, dict[str, Any]] = {
    "percentile": {"scale": "unit", "ties": "midrank", "pool": None},
    "top_fraction": {"q": 0.2},
    "normal": {"scores": "van_der_waerden"},
    "soft_winrate": {"tau": REQUIRED},
    "gopo": {},
    "mean": {},
    "rloo": {},
    "zscore": {"ddof": 1, "eps": 1e-6},
    "batch_std": {"eps": 1e-4},
    "reinforce_pp": {"eps": 1e-8},
    "quantile": {"k": 0.4, "ddof": 1, "eps": 1e-6},
    "maxrl": {},
    "best_minus_second": {},
    "pass_at_k": {"k": REQUIRED, "threshold": 0.5},
    "pkpo": {"k": REQUIRED, "baseline": "none"},
    "opo": {"lengths": REQUIRED},
    "gdpo": {"weights": None, "eps": 1e-8},
    "borda": {"weights": None},
}
CHOICES = {
    "scale": ("unit", "none"),
    "ties": ("midrank", "min", "max", "dense", "ordinal"),
    "scores": ("van_der_waerden", "blom"),
    "baseline": ("none", "leave_one_out"),
}


def resolve(estimator: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return all options of `estimator`, those given checked."""
    if estimator not in ESTIMATORS:
        hint = synonyms.did_you_mean(estimator, ESTIMATORS, synonyms.ADVANTAGES) or "."
        raise ValueError(f"no estimator {estimator!r}{hint} There are: {', '.join(ESTIMATORS)}")
    defaults = ESTIMATORS[estimator]
    has = ", ".join(map(_shown, defaults, defaults.values())) or "none"
    for name in given:
        if name not in defaults:
            hint = synonyms.did_you_mean(name, defaults, synonyms.OPTIONS)
            raise TypeError(f"{estimator} has no option {name!r}; it has {has}{hint}")
    options = defaults | given
    for name, value in options.items():
        if value is REQUIRED:
            raise TypeError(f"{estimator} needs {name}; it has {has}")
        _check(estimator, name, value)
    if options.get("pool") is not None and {"scale", "ties"} & set(given):
        raise TypeError(
            "scale and ties rank members among themselves; with a pool they have no use"
        )
    return options


def _shown(name: str, default: Any) -> str:
    return name if default is REQUIRED else f"{name}={default!r}"


def _check(estimator: str, name: str, value: Any) -> None:
    if name in CHOICES and value not in CHOICES[name]:
        raise ValueError(f"{name} is {value!r}; use one of {synonyms.listed(value, CHOICES[name])}")
    if name == "ddof" or (name == "k" and estimator != "quantile"):
        lowest = 0 if name == "ddof" else 1
        as_count(name, value, lowest=lowest)
    elif name in ("eps", "tau", "k", "q", "threshold"):
        if isinstance(value, bool) or not isinstance(value, numbers.Real) or not _finite(value):
            raise ValueError(f"{name} is {value!r}; it is a finite number")
        if name == "eps" and value < 0:
            raise ValueError(f"eps is {value!r}; it is not negative")


def as_count(name: str, value: Any, *, lowest: int) -> int:
    """Return `value` if it is an integer of at least `lowest`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} is {value!r}; it is an integer")
    if value < lowest:
        limit = "not negative" if lowest == 0 else f"at least {lowest}"
        raise ValueError(f"{name} is {value}; it is {limit}")
    return int(value)


def _finite(value: Any) -> bool:
    return math.isfinite(float(value))
