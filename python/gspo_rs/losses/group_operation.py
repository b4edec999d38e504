"""Losses of groups under `torch.compile`: one operation of the graph, computed as ever.

Which members they compare depends on values, and NumPy and the core find it, so a graph cannot hold
their steps. The operation returns value, gradient and metrics together.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from typing import Any

import torch
from torch import Tensor, library

__all__ = ["one_operation"]

Loss = Callable[..., tuple[Tensor, dict[str, Tensor]]]
METRICS = ("pairs/accuracy", "pairs/margin")

_LOSSES: dict[str, Loss] = {}


def one_operation(loss: Loss) -> Loss:
    """Make a loss of scores, rewards and groups one operation where it is compiled.

    There rewards and groups are tensors, arrays, or lists of numbers.
    """
    _LOSSES[loss.__name__] = loss

    @wraps(loss)
    def called(
        scores: Tensor, rewards: Any, groups: Any, **options: Any
    ) -> tuple[Tensor, dict[str, Tensor]]:
        if not torch.compiler.is_compiling():
            return loss(scores, rewards, groups, **options)
        n_groups = options.pop("n_groups", None)
        if len(options) > 1:
            raise TypeError(f"{loss.__name__} has one option but n_groups, not {[*options]}")
        # By name, so that a wrong one is refused by the loss itself.
        option, value = next(iter(options.items()), ("", 0.0))
        loss_value, _, *metrics = _compare(
            scores,
            torch.as_tensor(rewards, dtype=torch.float64),
            torch.as_tensor(groups),
            loss=loss.__name__,
            option=option,
            value=float(value),
            n_groups=n_groups,
        )
        return loss_value, dict(zip(METRICS, (x.detach() for x in metrics), strict=True))

    return called


@library.custom_op("gspo_rs::compare", mutates_args=())
def _compare(
    scores: Tensor,
    rewards: Tensor,
    groups: Tensor,
    *,
    loss: str,
    option: str,
    value: float,
    n_groups: int | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    options = {option: value} if option else {}
    stream = torch.cuda.current_stream(scores.device) if scores.is_cuda else None

    def measured() -> tuple[Tensor, Tensor, Tensor, Tensor]:
        leaf = scores.detach().requires_grad_()
        with torch.cuda.stream(stream):
            found, metrics = _LOSSES[loss](leaf, rewards, groups, n_groups=n_groups, **options)
            (slopes,) = torch.autograd.grad(found, leaf)
        return found.detach(), slopes, metrics[METRICS[0]], metrics[METRICS[1]]

    # Inside an operation nothing is recorded for autograd; that is a state of the thread.
    with ThreadPoolExecutor(1) as another:
        return another.submit(measured).result()


@_compare.register_fake
def _(scores: Tensor, *_rest: Any, **_options: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dtype = scores.dtype if scores.dtype == torch.float64 else torch.float32
    accuracy, margin = (scores.new_empty((), dtype=torch.float64) for _ in METRICS)
    return scores.new_empty((), dtype=dtype), torch.empty_like(scores), accuracy, margin


def _keep(ctx: Any, inputs: Any, keyword_only_inputs: Any, output: Any) -> None:  # noqa: ARG001
    ctx.save_for_backward(output[1])


def _pull(ctx: Any, slope: Tensor, *_unused: Any) -> tuple[Tensor, None, None]:
    (slopes,) = ctx.saved_tensors
    return (slope * slopes).to(slopes.dtype), None, None


_compare.register_autograd(_pull, setup_context=_keep)
