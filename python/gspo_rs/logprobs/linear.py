"""Log-probabilities of given tokens under a linear head, without the matrix of all logits.

Letters: ``n`` tokens, ``D`` hidden size, ``V`` vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gspo_rs.logprobs.chunk import Scaling, default_chunk_size
from gspo_rs.logprobs.chunked import ChunkedLogprobs, Plan
from gspo_rs.logprobs.operation import logprobs_operation

__all__ = ["default_chunk_size", "linear_logprobs", "linear_logprobs_and_entropy"]


def linear_logprobs(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    bias: Tensor | None = None,
    temperature: float = 1.0,
    softcap: float | None = None,
    chunk_size: int | None = None,
) -> Tensor:
    """Return the log-probability of each target under a linear head, chunk of tokens by chunk.

    Parameters
    ----------
    hidden : Tensor, shape (n, D)
        Input of the head for each token; any float dtype.
    weight : Tensor, shape (V, D)
        The head, in the dtype of `hidden` (both are cast under autocast).
    targets : Tensor of int64, shape (n,)
        The token whose log-probability is asked, from 0 to V - 1.
    bias : Tensor, shape (V,), optional
        Added to the logits.
    temperature : float
        Positive; the logits are divided by it before the softmax.
    softcap : float, optional
        Positive; before that, logits become ``softcap * tanh(logits / softcap)``.
    chunk_size : int, optional
        Tokens taken at once; it changes memory and speed, not the result. By default as many as
        make 128 MiB of float32 logits, and 512 at least; on a GPU all that a quarter of the free
        memory holds.

    Returns
    -------
    Tensor, shape (n,)
        In nats, float32 (float64 for float64 input), with gradients for `hidden`, `weight`, `bias`.

    Raises
    ------
    ValueError
        If shapes or devices do not fit, or `temperature`, `softcap` or `chunk_size` is not
        positive.
    TypeError
        If `hidden` and `weight` differ in dtype.

    Notes
    -----
    The backward pass computes each chunk's logits again, unless one chunk holds all tokens; then
    their softmax is kept. O(chunk_size V) memory beyond the gradients; four matrix products forward
    and backward where the plain expression has three. Tokens without slope, 64 and more in a row,
    cost no product backward, except on a GPU. Differentiable once. A head that is not one
    matrix, as with a LoRA adapter on it, cannot be given here; `model_logprobs` takes it.

    Examples
    --------
    >>> hidden, weight = torch.eye(2), torch.tensor([[0.0, 1.0], [0.0, 0.0], [0.0, 1.0]])
    >>> linear_logprobs(hidden, weight, torch.tensor([1, 0]))
    tensor([-1.0986, -0.8620])
    """
    scaling = Scaling(float(temperature), softcap)
    return _in_chunks(hidden, weight, targets, bias, (scaling, chunk_size, False))[0]


def linear_logprobs_and_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    bias: Tensor | None = None,
    temperature: float = 1.0,
    softcap: float | None = None,
    chunk_size: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Return `linear_logprobs`, and the entropy of each token's distribution, in the same pass.

    Parameters
    ----------
    hidden, weight, targets, bias, temperature, softcap, chunk_size
        As in `linear_logprobs`.

    Returns
    -------
    logprobs : Tensor, shape (n,)
        As `linear_logprobs` returns them.
    entropy : Tensor, shape (n,)
        In nats, same dtype, detached: of the whole softmax, not of a sample of it.

    Raises
    ------
    ValueError, TypeError
        As `linear_logprobs` does.

    Examples
    --------
    >>> hidden, weight = torch.eye(2), torch.tensor([[0.0, 1.0], [0.0, 0.0], [0.0, 1.0]])
    >>> linear_logprobs_and_entropy(hidden, weight, torch.tensor([1, 0]))[1]
    tensor([1.0986, 1.0174])
    """
    scaling = Scaling(float(temperature), softcap)
    logprobs, entropy = _in_chunks(hidden, weight, targets, bias, (scaling, chunk_size, True))
    assert entropy is not None
    return logprobs, entropy


def _in_chunks(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    bias: Tensor | None,
    options: tuple[Scaling, int | None, bool],
) -> tuple[Tensor, Tensor | None]:
    scaling, size, entropy = options
    asked: dict[str, Any] = {
        "dtype": checked(hidden, weight, targets, bias, chunk_size=size),
        "entropy": entropy,
    }
    if torch.compiler.is_compiling():
        asked |= {"temperature": scaling.temperature, "softcap": scaling.softcap}
        results = logprobs_operation(hidden, weight, bias, targets, chunk_size=size, **asked)
        return results if entropy else (results[0], None)
    grad = torch.is_grad_enabled()
    plan = Plan.of(hidden, weight, scaling, chunk_size=size, differentiable=grad, **asked)
    found: tuple[Tensor, Tensor | None] = ChunkedLogprobs.apply(  # type: ignore[no-untyped-call]
        hidden, weight, bias, targets, plan
    )
    return found


def checked(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    bias: Tensor | None,
    *,
    chunk_size: int | None,
) -> torch.dtype:
    """Refuse inputs that do not fit, and return the dtype of the products, which autocast tells.

    The casts are made where the sums are: autograd's, of the gradient of a cast weight, would round
    that on its way to a float32 parameter.
    """
    _check_shapes(hidden, weight, targets, bias)
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"chunk_size is {chunk_size}; it should be at least 1")
    device = hidden.device.type
    if torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    if hidden.dtype != weight.dtype:
        raise TypeError(f"hidden is {hidden.dtype} and weight {weight.dtype}; cast one of them")
    return hidden.dtype


def _check_shapes(hidden: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None) -> None:
    if not isinstance(weight, Tensor):
        raise TypeError(
            f"weight is a {type(weight).__name__}, not a matrix (V, D); a head with an adapter "
            "such as LoRA is more than its weight: model_logprobs takes the model as a whole"
        )
    fits = hidden.dim() == 2 and weight.dim() == 2 and hidden.shape[1] == weight.shape[1]
    if not fits or targets.shape != hidden.shape[:1]:
        raise ValueError(
            "expected hidden (n, D), weight (V, D) and targets (n,), not "
            f"{tuple(hidden.shape)}, {tuple(weight.shape)} and {tuple(targets.shape)}"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias has shape {tuple(bias.shape)}; expected {tuple(weight.shape[:1])}")
    for name, given in (("weight", weight), ("targets", targets), ("bias", bias)):
        if given is not None and given.device != hidden.device:
            raise ValueError(f"{name} is on {given.device} and hidden on {hidden.device}")
