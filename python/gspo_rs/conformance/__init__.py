"""Conformance checks of your own loss or advantage function.

`check` runs it on reference cases and reports what differs, and by what factor.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from gspo_rs.conformance.advantages import advantage_findings, estimator_name
from gspo_rs.conformance.probe import Finding
from gspo_rs.conformance.ratio import clip_bound, ratio_findings, ratio_level
from gspo_rs.conformance.reduction import reduction_findings, weights_name

__all__ = ["Finding", "Report", "check"]


@dataclass(frozen=True)
class Report:
    """The findings of a check.

    Attributes
    ----------
    kind : {"loss", "advantage"}
        What the function was taken for.
    nature : str
        What it looks like: ratio, clip and weights of a loss, the estimator of an advantage.
    findings : tuple of Finding
        What is wrong with it; empty if nothing is.
    """

    kind: Literal["loss", "advantage"]
    nature: str
    findings: tuple[Finding, ...]

    @property
    def faults(self) -> list[str]:
        """The names of the findings."""
        return [finding.fault for finding in self.findings]

    def __str__(self) -> str:
        lines = [f"{self.kind}: {self.nature}", *(f"- {found}" for found in self.findings)]
        return "\n".join(lines if self.findings else [*lines, "nothing wrong found"])


def check(function: Callable[..., Any], kind: Literal["loss", "advantage"] | None = None) -> Report:
    """Check a policy loss or an advantage function against its definition.

    Parameters
    ----------
    function : callable
        A loss ``f(logprobs, old_logprobs, advantages, mask)`` on padded tensors (B, T), with
        advantages (B,) and a bool mask, that returns a scalar or a tuple that begins with one; or
        an advantage ``f(rewards, groups)`` on arrays (n,) of rewards and integer ids, that returns
        an array (n,).
    kind : {"loss", "advantage"}, optional
        By default from the number of arguments that the function needs: four or two.

    Returns
    -------
    Report
        Prints as text.

    Raises
    ------
    TypeError
        If `kind` is not given and neither fits, or the function returns something else.

    Notes
    -----
    On policy (``logprobs == old_logprobs``) every loss of `gspo_rs.losses` has the gradient
    ``-w_i A_i`` at a token of sequence i: from it weights, mask and cuts are judged without
    knowing the loss. The ratio is judged by moving tokens alone and together. What the function
    raises is not caught.

    Examples
    --------
    >>> def loss(logprobs, old_logprobs, advantages, mask):
    ...     ratio = ((logprobs - old_logprobs) * mask).sum(1).exp()
    ...     return -(ratio * advantages).mean()
    >>> check(loss).faults
    ['NaN outside the mask', 'summed sequence ratio', 'overflow', 'empty sequence', 'low precision']
    """
    kind = kind or _kind(function)
    if kind == "advantage":
        return Report(kind, estimator_name(function), tuple(advantage_findings(function)))
    findings = tuple(reduction_findings(function))
    if "no gradient" in [finding.fault for finding in findings]:
        return Report(kind, "unknown", findings)
    return Report(kind, _nature(function), (*findings, *ratio_findings(function)))


def _kind(function: Callable[..., Any]) -> Literal["loss", "advantage"]:
    needed = [
        parameter
        for parameter in inspect.signature(function).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    if len(needed) == 4:
        return "loss"
    if len(needed) == 2:
        return "advantage"
    name = getattr(function, "__name__", repr(function))
    raise TypeError(
        f"{name} needs {len(needed)} arguments; a loss (logprobs, old_logprobs, advantages, mask) "
        "needs 4, an advantage (rewards, groups) 2"
    )


def _nature(function: Callable[..., Any]) -> str:
    level = {
        "token": "one ratio per token",
        "sequence": "one ratio per sequence, the geometric mean",
        "product": "one ratio per sequence, the product",
        "padded": "one ratio per sequence, over the padded length",
        "unknown": "another ratio",
    }[ratio_level(function)]
    low, high = clip_bound(function, -1.0, -1), clip_bound(function, 1.0, 1)
    bounds = " and ".join("none" if x is None else f"{x:.3g}" for x in (low, high))
    return f"{level}; clip {bounds}; weights of {weights_name(function)}"
