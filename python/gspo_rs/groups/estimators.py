"""The advantage estimators: their names, options with defaults and limits, and what they need."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from gspo_rs.groups import synonyms
from gspo_rs.groups.checks import REQUIRED, as_count


@dataclass(frozen=True)
class Estimator:
    """The description of an advantage estimator, besides its kernel.

    Attributes
    ----------
    options : mapping of str to Any
        Its options with their defaults.
    scope : {"group", "batch"}
        Whether it looks at one group at a time or needs all of them at once.
    needs : tuple of str
        What it needs besides one reward a row: ``"lengths"``, an option of shape (n,), or
        ``"rewards"``, several rewards a row.
    non_negative : bool
        Whether a reward below 0 is an error.
    of_means : bool
        Whether it looks at a mean of the group and no more, which may be taken in one pass.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    scope: Literal["group", "batch"] = "group"
    needs: tuple[Literal["lengths", "rewards"], ...] = ()
    non_negative: bool = False
    of_means: bool = False

    @cached_property
    def several(self) -> bool:
        """Whether it takes several rewards as they are; for any other, they are summed first."""
        return "rewards" in self.needs

    @cached_property
    def composed(self) -> bool:
        """Whether it looks beyond the rewards of one group; see `batch_estimators` then."""
        return self.scope == "batch" or bool(self.needs)

    @cached_property
    def self_contained(self) -> bool:
        """Whether the rewards of a group are all that it needs."""
        return not (self.composed or self.required)

    @property
    def draws(self) -> bool:
        """Whether its `k` is a number of draws from a group, which has no default."""
        return self.options.get("k") is REQUIRED

    @cached_property
    def required(self) -> frozenset[str]:
        """The options that have no default."""
        return frozenset(name for name, value in self.options.items() if value is REQUIRED)

    @property
    def free(self) -> bool:
        """Whether it takes one reward a row and no option but `lengths` must be given."""
        return not self.several and self.required <= {"lengths"}


# The formulas are in docs/reference/estimators.md.
ESTIMATORS: dict[str, Estimator] = {
    "percentile": Estimator({"scale": "unit", "ties": "midrank", "pool": None}),
    "top_fraction": Estimator({"q": 0.2}),
    "normal": Estimator({"scores": "van_der_waerden"}),
    "soft_winrate": Estimator({"tau": REQUIRED}),
    "gopo": Estimator(),
    "mean": Estimator(of_means=True),
    "rloo": Estimator(of_means=True),
    "zscore": Estimator({"ddof": 1, "eps": 1e-6}),
    "batch_std": Estimator({"eps": 1e-4}, "batch"),
    "reinforce_pp": Estimator({"eps": 1e-8}, "batch"),
    "quantile": Estimator({"k": 0.4, "ddof": 1, "eps": 1e-6}),
    "maxrl": Estimator(non_negative=True, of_means=True),
    "best_minus_second": Estimator(),
    "pass_at_k": Estimator({"k": REQUIRED, "threshold": 0.5}),
    "pkpo": Estimator({"k": REQUIRED, "baseline": "none"}),
    "opo": Estimator({"lengths": REQUIRED}, needs=("lengths",), of_means=True),
    "gdpo": Estimator({"weights": None, "eps": 1e-8}, "batch", needs=("rewards",)),
    "borda": Estimator({"weights": None}, needs=("rewards",)),
}
CHOICES = {
    "scale": ("unit", "none"),
    "ties": ("midrank", "min", "max", "dense", "ordinal"),
    "scores": ("van_der_waerden", "blom"),
    "baseline": ("none", "leave_one_out"),
}


def estimator_named(estimator: str) -> Estimator:
    """Return the estimator of a name."""
    if estimator not in ESTIMATORS:
        hint = synonyms.did_you_mean(estimator, ESTIMATORS, synonyms.ADVANTAGES) or "."
        raise ValueError(f"no estimator {estimator!r}{hint} There are: {', '.join(ESTIMATORS)}")
    return ESTIMATORS[estimator]


def resolve(estimator: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return all options of `estimator`, those given checked."""
    found = estimator_named(estimator)
    if not given and not found.required:
        return dict(found.options)
    for name in given:
        if name not in found.options:
            hint = synonyms.did_you_mean(name, found.options, synonyms.OPTIONS)
            raise TypeError(f"{estimator} has no option {name!r}; it has {_has(found)}{hint}")
    options = {**found.options, **given}
    for name, value in options.items():
        if value is REQUIRED:
            raise TypeError(f"{estimator} needs {name}; it has {_has(found)}")
        if name in given:
            _check(found, name, value)
    if options.get("pool") is not None and {"scale", "ties"} & set(given):
        raise TypeError(
            "scale and ties rank members among themselves; with a pool they have no use"
        )
    return options


def _has(estimator: Estimator) -> str:
    return ", ".join(map(_shown, estimator.options, estimator.options.values())) or "none"


def _shown(name: str, default: Any) -> str:
    return name if default is REQUIRED else f"{name}={default!r}"


def _check(estimator: Estimator, name: str, value: Any) -> None:
    if name in CHOICES and value not in CHOICES[name]:
        raise ValueError(f"{name} is {value!r}; use one of {synonyms.listed(value, CHOICES[name])}")
    if name == "ddof" or (name == "k" and estimator.draws):
        lowest = 0 if name == "ddof" else 1
        as_count(name, value, lowest=lowest)
    elif name in ("eps", "tau", "k", "q", "threshold"):
        if isinstance(value, bool) or not isinstance(value, numbers.Real) or not _finite(value):
            raise ValueError(f"{name} is {value!r}; it is a finite number")
        if name == "eps" and value < 0:
            raise ValueError(f"eps is {value!r}; it is not negative")


def _finite(value: Any) -> bool:
    return math.isfinite(float(value))
