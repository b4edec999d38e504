"""Probe a loss function: compute its gradient on small batches.

Letters: ``B`` sequences, ``T`` columns. A loss has the padded signature
``loss(logprobs, old_logprobs, advantages, mask)`` and returns a scalar, or a tuple that begins with
one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

TOLERANCE = 1e-5
"""Relative; a loss may compute in float32."""

LossFunction = Callable[[Tensor, Tensor, Tensor, Tensor], Any]


@dataclass(frozen=True)
class Finding:
    """One way in which a function differs from the definition.

    Attributes
    ----------
    fault : str
        Its name, for instance ``"summed sequence ratio"``.
    message : str
        What was seen, by what factor, and the remedy.
    """

    fault: str
    message: str

    def __str__(self) -> str:
        return f"{self.fault}: {self.message}"


@dataclass(frozen=True)
class Case:
    """Arguments of a loss.

    Attributes
    ----------
    new, old : Tensor, shape (B, T)
        Log-probabilities under the current and the old policy.
    advantages : Tensor, shape (B,)
        One per sequence.
    mask : Tensor of bool, shape (B, T)
        True where the policy sampled the token.
    """

    new: Tensor
    old: Tensor
    advantages: Tensor
    mask: Tensor

    def rows(self, rows: list[int]) -> Case:
        """Return some of the sequences, in this order."""
        return Case(self.new[rows], self.old[rows], self.advantages[rows], self.mask[rows])

    def columns(self, columns: list[int]) -> Case:
        """Return some of the columns, in this order."""
        new, old, mask = (x[:, columns] for x in (self.new, self.old, self.mask))
        return Case(new, old, self.advantages, mask)

    def moved(self, log_ratio: float | Tensor) -> Case:
        """Return the case with the current policy this far from the old one."""
        return replace(self, new=self.old + log_ratio)


def reference_case() -> Case:
    """Return four sequences of 6, 3, 1 and 8 tokens in nine columns, on policy, in float64.

    Examples
    --------
    >>> reference_case().mask.sum(dim=1)
    tensor([6, 3, 1, 8])
    """
    column = torch.arange(9, dtype=torch.float64)
    row = torch.arange(4, dtype=torch.float64).unsqueeze(1)
    # Unlike values without a random number: the fractional parts of multiples of the golden ratio,
    # in few digits, so that a loss that takes differences in float32 loses none.
    old = -0.2 - 2.0 * ((column + 9 * row + 1) * 0.6180339887498949).frac()
    old = (old * 1024).round() / 1024
    mask = column < torch.tensor([[6], [3], [1], [8]])
    return Case(old.clone(), old, torch.tensor([1.0, -0.7, 0.4, -1.2]).double(), mask)


def one_sequence(length: int, advantage: float) -> Case:
    """Return one sequence of `length` tokens with two columns of padding after it."""
    whole = reference_case()
    old = whole.old.flatten()[: length + 2].unsqueeze(0)
    mask = torch.arange(length + 2).unsqueeze(0) < length
    return Case(old.clone(), old, torch.tensor([advantage]).double(), mask)


def ask(loss_of: LossFunction, case: Case) -> tuple[Tensor, Tensor]:
    """Return the value and the gradient in the log-probabilities, both in float64.

    Raises
    ------
    TypeError
        If the function does not return a scalar tensor with a gradient.
    """
    leaf = case.new.detach().clone().requires_grad_()
    found = loss_of(leaf, case.old.clone(), case.advantages.clone(), case.mask.clone())
    loss = found[0] if isinstance(found, tuple) else found
    if not isinstance(loss, Tensor) or loss.dim() != 0:
        raise TypeError(f"the loss returns {type(loss).__name__}, not a scalar tensor")
    if not loss.requires_grad:
        return loss.detach().double(), torch.zeros_like(leaf).double()
    (gradient,) = torch.autograd.grad(loss, leaf, allow_unused=True)
    gradient = torch.zeros_like(leaf) if gradient is None else gradient
    return loss.detach().double(), gradient.double()


def factor(found: Tensor, expected: Tensor) -> float | None:
    """Return the one number that `expected` is multiplied by in `found`, or None.

    Examples
    --------
    >>> factor(torch.tensor([2.0, 0.0]), torch.tensor([1.0, 0.0]))
    2.0
    >>> factor(torch.tensor([2.0, 1.0]), torch.tensor([1.0, 1.0])) is None
    True
    """
    square = float((expected * expected).sum())
    if square == 0:
        return None
    ratio = float((found * expected).sum()) / square
    size = max(abs(ratio), 1e-3) * square**0.5
    return ratio if torch.allclose(found, ratio * expected, TOLERANCE, TOLERANCE * size) else None


def alike(found: Tensor, expected: Tensor) -> bool:
    """Return whether two gradients are the same but for rounding in float32."""
    ratio = factor(found, expected)
    return ratio is not None and abs(ratio - 1) < TOLERANCE
