"""The advantage estimators: how far each completion stands above its group."""

from __future__ import annotations

import difflib
from typing import Any

from numpy.typing import ArrayLike

from gspo_rs.rows import Floats, rows

# Estimator → its options with their defaults; the formulas are in docs/estimators.md.
ESTIMATORS: dict[str, dict[str, Any]] = {
    "percentile": {"scale": "unit", "ties": "midrank"},
    "top_fraction": {"q": 0.2},
    "mean": {},
    "rloo": {},
    "zscore": {"ddof": 1, "eps": 1e-6},
    "gopo": {},
}
CHOICES = {
    "scale": ("unit", "none"),
    "ties": ("midrank", "min", "max", "dense", "ordinal"),
}


def advantage(
    rewards: ArrayLike, groups: Any, estimator: str = "percentile", **options: Any
) -> Floats:
    """Return how far each completion stands above its group.

    Parameters
    ----------
    rewards : array_like of float, shape (n,)
        One reward per rollout; NaN or null where it could not be scored.
    groups : Groups or ids of n rows
        The groups, or what `Groups` takes.
    estimator : str
        ``percentile`` (``scale="unit" | "none"``, ``ties="midrank" | "min" | "max" | "dense" |
        "ordinal"``), ``top_fraction`` (``q=0.2``), ``mean``, ``rloo``,
        ``zscore`` (``ddof=1``, ``eps=1e-6``), ``gopo``.
    **options
        The options of the estimator.

    Returns
    -------
    ndarray of float64, shape (n,)
        0 for an unscorable reward, and exactly 0 throughout a group with fewer than two
        scorable members or with equal ones.

    Raises
    ------
    ValueError
        For an unknown estimator or a bad option, an infinite reward (the message names the
        row), or if the numbers of rewards and rollouts differ.
    TypeError
        For an option that the estimator does not have; the message lists those it has.

    Notes
    -----
    With ``p`` the percentile and ``N`` the scorable members, ``percentile`` is ``2 p - 1``:
    wins minus losses over opponents, leave-one-out with a sign kernel [1]_; unit scale
    multiplies by ``sqrt(3 (N - 1) / (N + 1))``, the inverse deviation of an untied group.
    ``top_fraction`` is the share in the best ``q`` minus ``q``; ``gopo`` is twice the unscaled
    percentile [2]_; ``mean`` is Dr. GRPO's [3]_, ``rloo`` leave-one-out [4]_, ``zscore``
    GRPO's [5]_. All of these sum to zero over a group.

    References
    ----------
    .. [1] G. Swamy et al. (2024). A minimaximalist approach to reinforcement learning from
       human feedback. arXiv 2401.04056.
    .. [2] GOPO, arXiv 2602.03876.
    .. [3] Z. Liu et al. (2025). Understanding R1-Zero-like training. arXiv 2503.20783.
    .. [4] A. Ahmadian et al. (2024). Back to basics. arXiv 2402.14740.
    .. [5] Z. Shao et al. (2024). DeepSeekMath. arXiv 2402.03300.

    Examples
    --------
    >>> advantage([3.0, 1.0, 2.0, 9.0], ["a", "a", "a", "b"], "percentile", scale="none")
    array([ 1., -1.,  0.,  0.])
    """
    spec = {"estimator": estimator, **_options(estimator, options)}
    return rows(rewards, groups, [("advantage", spec)])[0]


def _options(estimator: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return all options of `estimator`, those given checked."""
    if estimator not in ESTIMATORS:
        near = difflib.get_close_matches(estimator, ESTIMATORS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"no estimator {estimator!r}{hint} There are: {', '.join(ESTIMATORS)}")
    defaults = ESTIMATORS[estimator]
    for name, value in given.items():
        if name not in defaults:
            has = ", ".join(f"{key}={default!r}" for key, default in defaults.items())
            raise TypeError(f"{estimator} has no option {name!r}; it has {has or 'none'}")
        if name in CHOICES and value not in CHOICES[name]:
            raise ValueError(f"{name} is {value!r}; use one of {', '.join(CHOICES[name])}")
    if min(given.get("ddof", 0), given.get("eps", 0)) < 0:
        raise ValueError(f"ddof and eps are not negative, found {given}")
    return defaults | given
