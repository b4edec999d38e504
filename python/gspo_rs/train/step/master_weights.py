"""Steps of bfloat16 weights through float32 master copies, of which 16 bits a weight are kept.

A float32 number is its bfloat16, rounded to the nearest, and a rest of 16 bits: the weight that the
model computes with is the upper half of the master copy, and the optimizer's state has the lower.
"""

import torch
from torch import Tensor

__all__ = ["REST", "joined", "split", "step"]

REST = "rest"
"""The key of the lower halves in the state of an optimizer."""


def split(master: Tensor) -> tuple[Tensor, Tensor]:
    """Cut float32 numbers into bfloat16 and a rest.

    Parameters
    ----------
    master : Tensor of float32
        Finite.

    Returns
    -------
    weights : Tensor of bfloat16
        The nearest; of two as near the one farther from 0.
    rest : Tensor of int16
        What is missing, in units of the last bit of `master`.

    Examples
    --------
    >>> weights, rest = split(torch.tensor([1.0, 1.0 + 2**-20]))
    >>> weights.tolist(), rest.tolist()
    ([1.0, 1.0], [0, 8])
    """
    bits = master.view(torch.int32)
    upper = (bits + 0x8000).bitwise_right_shift_(16)
    weights = upper.to(torch.int16).view(torch.bfloat16)
    rest = torch.sub(bits, upper.bitwise_left_shift_(16), out=upper).to(torch.int16)
    return weights, rest


def joined(weights: Tensor, rest: Tensor | None) -> Tensor:
    """Put together what `split` has cut, exactly.

    Parameters
    ----------
    weights : Tensor of bfloat16
        The upper half.
    rest : Tensor of int16, or None
        The lower half; none is 0.

    Returns
    -------
    Tensor of float32
        New.

    Examples
    --------
    >>> master = torch.tensor([0.1, -3.0])
    >>> bool((joined(*split(master)) == master).all())
    True
    """
    if rest is None:
        return weights.float()
    bits = weights.view(torch.int16).to(torch.int32).bitwise_left_shift_(16)
    return bits.add_(rest).view(torch.float32)


@torch.no_grad()
def step(optimizer: torch.optim.Optimizer) -> None:
    """Take a step of an optimizer, of each bfloat16 parameter in float32.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        One that creates the state of a parameter at its first step, and leaves alone those without
        gradient. It sees one bfloat16 parameter after another as its master copy, so that no more
        than one is there at once.

    Notes
    -----
    The update is that of float32 weights whose gradient was rounded to bfloat16: a step of 1e-6,
    which is below the half of a last bit of any bfloat16 weight beyond 5e-4, adds up in the rests.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    narrow = [p for p in parameters if p.dtype == torch.bfloat16 and p.grad is not None]
    gradients = [p.grad for p in narrow]
    for parameter in narrow:
        parameter.grad = None
    optimizer.step()  # of the others; and its hooks run before any weight is moved
    for parameter in reversed(narrow):
        _step_one(optimizer, parameter, gradients.pop())


def _step_one(
    optimizer: torch.optim.Optimizer, parameter: torch.nn.Parameter, gradient: Tensor
) -> None:
    """Take the step of one parameter, the only one with a gradient."""
    state, weights = optimizer.state[parameter], parameter.data
    rest = state.pop(REST, None)
    parameter.data = joined(weights, rest)
    parameter.grad = gradient.float()
    optimizer.step()
    parameter.grad = None
    upper, state[REST] = split(parameter.data)
    parameter.data = weights.copy_(upper)
