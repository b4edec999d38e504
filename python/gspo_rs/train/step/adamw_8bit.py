"""AdamW whose two moments take a byte a number each.

Letters: ``N`` numbers of a parameter, in ``B`` blocks of `BLOCK`.
"""

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import torch
from torch import Tensor

__all__ = ["AdamW8bit", "dequantise", "quantise", "state_bytes"]

BLOCK = 256
"""Numbers that share a scale."""
SMALLEST = 4096
"""Numbers of the smallest parameter whose moments are bytes; norms and biases keep float32."""
CHUNK = 2**18
"""Numbers that are moved at once, so that their float32 moments take little memory."""


class AdamW8bit(torch.optim.Optimizer):
    """AdamW that keeps the mean of gradients, and the root of the mean of their squares, in bytes.

    Parameters
    ----------
    params : iterable of Parameter
        Float32; a bfloat16 one takes its step through `master_weights`.
    lr, betas, eps, weight_decay
        As of `torch.optim.AdamW`.

    Notes
    -----
    Blockwise dynamic quantisation is that of [1]_. There the mean of squares itself is quantised;
    here its root is, whose range is half as many decades: the square of a gradient a thousand times
    below the largest of its block would become 0, and the next step be divided by nothing. Each
    step is that of AdamW from the moments as they were kept: the first is exact.

    References
    ----------
    .. [1] T. Dettmers, M. Lewis, S. Shleifer, L. Zettlemoyer (2022). 8-bit optimizers via
       block-wise quantization. arXiv 2110.02861.

    Examples
    --------
    >>> weight = torch.nn.Parameter(torch.zeros(4096))
    >>> optimizer = AdamW8bit([weight], lr=0.1, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.0)
    >>> weight.grad = torch.ones(4096)
    >>> optimizer.step()
    >>> weight[0].item(), optimizer.state[weight]["mean"].dtype
    (-0.10000000149011612, torch.uint8)
    """

    def __init__(
        self,
        params: Iterable[torch.nn.Parameter],
        *,
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, group)

    def _move(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state.update(_fresh(parameter))
        state["step"] += 1
        number, (beta1, beta2) = int(state["step"]), group["betas"]
        rate = group["lr"] / (1 - beta1**number)
        bias = (1 - beta2**number) ** 0.5
        assert parameter.grad is not None
        weights, gradients = parameter.detach().reshape(-1), parameter.grad.reshape(-1)
        for start in range(0, parameter.numel(), CHUNK):
            rows = slice(start, min(start + CHUNK, parameter.numel()))
            gradient = gradients[rows]
            mean = _kept(state, "mean", rows).lerp_(gradient, 1 - beta1)
            square = _kept(state, "root", rows).square_().mul_(beta2)
            root = square.addcmul_(gradient, gradient, value=1 - beta2).sqrt_()
            weights[rows].mul_(1 - group["lr"] * group["weight_decay"])
            weights[rows].addcdiv_(mean, root / bias + group["eps"], value=-rate)
            _keep(state, "mean", rows, mean)
            _keep(state, "root", rows, root)
        if weights.data_ptr() != parameter.data_ptr():  # a copy, of one that is not contiguous
            parameter.copy_(weights.view_as(parameter))


def state_bytes(n: int) -> int:
    """Return the bytes of the moments of a parameter of `n` numbers.

    Examples
    --------
    >>> state_bytes(1024), state_bytes(4096)
    (8192, 8320)
    """
    return 8 * n if n < SMALLEST else 2 * n + 8 * -(-n // BLOCK)


def quantise(values: Tensor, *, signed: bool) -> tuple[Tensor, Tensor]:
    """Round numbers to the nearest of 256 levels, which each block scales by its largest.

    Parameters
    ----------
    values : Tensor of float32, shape (N,)
        Finite.
    signed : bool
        Whether some are below 0.

    Returns
    -------
    codes : Tensor of uint8, shape (N,)
    scales : Tensor of float32, shape (B,)
        The last block may have fewer numbers.
    """
    padding = -len(values) % BLOCK
    blocks = torch.nn.functional.pad(values, (0, padding)).view(-1, BLOCK)
    scales = blocks.abs().amax(dim=1)
    shares = blocks / scales.clamp(min=torch.finfo(torch.float32).tiny)[:, None]
    middles = _levels(signed, values.device)[1]
    codes = torch.bucketize(shares, middles, out_int32=True).to(torch.uint8)
    return codes.view(-1)[: len(values)], scales


def dequantise(codes: Tensor, scales: Tensor, *, signed: bool) -> Tensor:
    """Return the numbers that `quantise` has rounded, (N,) float32."""
    levels = _levels(signed, codes.device)[0]
    each = scales.repeat_interleave(BLOCK)[: len(codes)]
    return levels[codes.int()].mul_(each)


@cache
def _levels(signed: bool, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the 256 levels, and the 255 middles between them.

    Seven decades, each with twice as many levels as the one below it, and 0 and 1.
    """
    counts = [2**decade if signed else 2 ** (decade + 1) for decade in range(7)]
    positive = [
        10.0 ** (decade - 6) * (0.1 + 0.9 * (place + 0.5) / count)
        for decade, count in enumerate(counts)
        for place in range(count)
    ]
    every = [0.0, 1.0, *positive, *([-level for level in positive] if signed else [])]
    levels = torch.tensor(sorted(every), dtype=torch.float64)
    middles = (levels[1:] + levels[:-1]) / 2
    return levels.float().to(device), middles.float().to(device)


def _fresh(parameter: Tensor) -> dict[str, Tensor]:
    n, device = parameter.numel(), parameter.device
    state = {"step": torch.zeros((), dtype=torch.float32)}
    for name, signed in (("mean", True), ("root", False)):
        if n < SMALLEST:
            state[name] = torch.zeros(n, device=device)
        else:
            codes, scales = quantise(torch.zeros(BLOCK, device=device), signed=signed)
            state[name] = codes[:1].repeat(n)
            state[f"{name}_scale"] = scales.repeat(-(-n // BLOCK))
    return state


def _kept(state: dict[str, Tensor], name: str, rows: slice) -> Tensor:
    """Return some numbers of a moment as float32, to be written over."""
    if f"{name}_scale" not in state:
        return state[name][rows].clone()
    scales = state[f"{name}_scale"][_blocks(rows)]
    return dequantise(state[name][rows], scales, signed=name == "mean")


def _keep(state: dict[str, Tensor], name: str, rows: slice, values: Tensor) -> None:
    if f"{name}_scale" not in state:
        state[name][rows] = values
        return
    codes, scales = quantise(values, signed=name == "mean")
    state[name][rows] = codes
    state[f"{name}_scale"][_blocks(rows)] = scales


def _blocks(rows: slice) -> slice:
    return slice(rows.start // BLOCK, -(-rows.stop // BLOCK))
