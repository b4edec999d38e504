"""How tokens belong to sequences: rows of a padded matrix, or runs of a flat vector.

Letters: ``B`` sequences, ``T`` columns of a padded batch, ``n_tokens`` tokens of a flat one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = [
    "LOG_PROB_FLOOR",
    "LOG_RATIO_BOUND",
    "Layout",
    "bounded_exp",
    "check_lengths",
    "compare",
    "readable",
    "sloped",
    "to_device",
]

LOG_RATIO_BOUND = 20.0
"""Log-ratios are clamped to plus or minus this before ``exp``: an overflow is NaN in the gradient
even of a branch that is not selected."""

LOG_PROB_FLOOR = -1e4
"""Log-probabilities below this count as this where they are a factor of a loss: an impossible token
would make it infinite. No model gives a token it can sample so little."""


@dataclass(frozen=True)
class Layout:
    """A checked assignment of tokens to `B` sequences.

    Attributes
    ----------
    mask : Tensor of bool, shape (B, T), or None
        True where the policy sampled the token; None in the flat layout, where every token counts.
    lengths : Tensor of int64, shape (B,)
        Sampled tokens of each sequence; 0 is allowed.
    n_tokens : int
        Entries of a token tensor, those outside the mask included.
    owner : Tensor of int64, shape (n_tokens,), or None
        The sequence of each token, in the flat layout.
    inside : Tensor of float, shape (B, T), or None
        The mask as 1 and 0: a product with it costs a fifth of a selection by bool.

    Examples
    --------
    >>> flat = Layout.of(torch.zeros(3), None, torch.tensor([2, 1]))
    >>> flat.total(torch.tensor([1.0, 2.0, 5.0]))
    tensor([3., 5.])
    >>> flat.spread(torch.tensor([7.0, 8.0]))
    tensor([7., 7., 8.])
    """

    mask: Tensor | None
    lengths: Tensor
    n_tokens: int
    owner: Tensor | None = None
    inside: Tensor | None = None

    @classmethod
    def of(cls, tokens: Tensor, mask: Tensor | None, lengths: Tensor | None) -> Layout:
        """Read the layout of `tokens` from its mask (padded) or its lengths (flat).

        Raises
        ------
        ValueError
            If not exactly one of `mask` and `lengths` is given, or it does not fit `tokens`.
        TypeError
            If `mask` is not bool.
        """
        if (mask is None) == (lengths is None):
            raise ValueError(
                "give mask (B, T) for the padded layout or lengths (B,) for the flat one, "
                f"not {'neither' if mask is None else 'both'}"
            )
        if mask is not None:
            return cls._padded(tokens, mask)
        assert lengths is not None
        return cls._flat(tokens, lengths)

    @classmethod
    def _padded(cls, tokens: Tensor, mask: Tensor) -> Layout:
        if mask.dtype != torch.bool:
            raise TypeError(f"mask is {mask.dtype}; make it bool, for instance by mask != 0")
        if tokens.dim() != 2 or mask.shape != tokens.shape:
            raise ValueError(
                f"mask {tuple(mask.shape)} and logprobs {tuple(tokens.shape)} should both be (B, T)"
            )
        # As bytes: a cast of bool takes five times as long.
        inside = mask.view(torch.uint8).to(torch.promote_types(tokens.dtype, torch.float32))
        return cls(mask, inside.sum(dim=1).long(), tokens.numel(), inside=inside)

    @classmethod
    def _flat(cls, tokens: Tensor, lengths: Tensor) -> Layout:
        if tokens.dim() != 1 or lengths.dim() != 1:
            raise ValueError(
                "the flat layout has logprobs (n_tokens,) and lengths (B,), not "
                f"{tuple(tokens.shape)} and {tuple(lengths.shape)}"
            )
        n_tokens = tokens.shape[0]
        check_lengths(lengths, n_tokens)
        if lengths.device.type == "cuda":
            # The kernels below would read and write out of bounds; this does not wait for the GPU.
            fits = (lengths.sum() == n_tokens) & (lengths >= 0).all()
            torch._assert_async(fits, "lengths do not sum to the number of logprobs")
        lengths = lengths.to(tokens.device)
        # The running count of sequence ends; repeat_interleave wakes every thread for it.
        ends = lengths.cumsum(dim=0)
        ended = lengths.new_zeros(n_tokens + 1).index_add(0, ends, torch.ones_like(ends))
        return cls(None, lengths, n_tokens, owner=ended[:-1].cumsum(dim=0))

    def select(self, values: Tensor) -> Tensor:
        """Zero what lies outside the mask, by selection: NaN there reaches no value or gradient."""
        if self.mask is None:
            return values
        if readable(values) and not values.requires_grad:
            # By bits, all or none of them, which takes a third of the time of `where` on a CPU.
            kept = self.mask.view(torch.int8).neg().to(torch.int32)
            return kept.bitwise_and_(values.view(torch.int32)).view(torch.float32)
        return torch.where(self.mask, values, 0.0)

    def log_ratio(self, logprobs: Tensor, old_logprobs: Tensor) -> Tensor:
        """Return ``logprobs - old_logprobs``, 0 outside the mask, in float32 at least."""
        if logprobs.shape != old_logprobs.shape:
            raise ValueError(
                f"logprobs {tuple(logprobs.shape)} and the log-probabilities it is compared with, "
                f"{tuple(old_logprobs.shape)}, should have one shape"
            )
        return self.select(_exact(logprobs) - _exact(old_logprobs.detach()))

    def logprobs(self, logprobs: Tensor) -> Tensor:
        """Return log-probabilities that multiply a loss: finite, 0 outside the mask, float32."""
        return self.select(_exact(logprobs)).clamp(min=LOG_PROB_FLOOR)

    def total(self, values: Tensor) -> Tensor:
        """Sum the tokens of each sequence, (B,); `values` are already 0 outside the mask."""
        if self.mask is not None:
            return values.sum(dim=1)
        if self.n_tokens == 0:
            return values.sum() + values.new_zeros(self.lengths.shape)
        if not (torch.is_grad_enabled() and values.requires_grad):
            return _totals(values, self.lengths)
        given = values, self.lengths, self.owner
        total: Tensor = _Total.apply(*given)  # type: ignore[no-untyped-call]
        return total

    def mean(self, values: Tensor) -> Tensor:
        """Average the tokens of each sequence, (B,); 0 for a sequence without tokens."""
        return self.total(values) / self.lengths.clamp(min=1)

    def spread(self, values: Tensor) -> Tensor:
        """Give each token the value of its sequence: (B, 1), which broadcasts, or (n_tokens,)."""
        return values.unsqueeze(1) if self.owner is None else values.index_select(0, self.owner)

    def sequence_values(self, values: Tensor, name: str, like: Tensor) -> Tensor:
        """Check and detach one value per sequence; 0 for a sequence without tokens."""
        if values.shape != self.lengths.shape:
            raise ValueError(
                f"{name} has shape {tuple(values.shape)}; expected one value for each of the "
                f"{self.lengths.shape[0]} sequences"
            )
        values = values.detach().to(like.device, like.dtype)
        return torch.where(self.lengths > 0, values, 0.0)

    def token_values(self, values: Tensor, name: str, like: Tensor) -> Tensor:
        """Check, detach and broadcast values given per sequence (B,) or per token."""
        if values.shape == self.lengths.shape:
            return self.spread(self.sequence_values(values, name, like))
        if values.shape != like.shape:
            raise ValueError(
                f"{name} has shape {tuple(values.shape)}; expected one value per sequence, "
                f"{tuple(self.lengths.shape)}, or one per token, {tuple(like.shape)}"
            )
        return self.select(values.detach().to(like.device, like.dtype))

    def weights(self, weights: Tensor | None, like: Tensor) -> Tensor:
        """Check the token weight of each sequence; by default ``seq_mean`` over this batch."""
        if weights is not None:
            return self.sequence_values(weights, "weights", like)
        live = (self.lengths > 0).to(like.dtype)
        return live / (live.sum().clamp(min=1) * self.lengths.clamp(min=1))

    def weighted_sum(self, terms: Tensor, weights: Tensor | None) -> Tensor:
        """Sum the terms of all tokens, each with the weight of its sequence: a loss."""
        return (self.weights(weights, terms) * self.total(self.select(terms))).sum()


def check_lengths(lengths: Tensor, n_tokens: int) -> None:
    """Refuse lengths on the CPU that do not cut `n_tokens` log-probabilities into sequences.

    A GPU would be asked in vain for what is wrong: an assertion there takes its context along.
    """
    if lengths.dtype != torch.int64:
        raise TypeError(f"lengths is {lengths.dtype}; make it int64")
    if lengths.device.type != "cpu" or torch.compiler.is_compiling():
        return
    if int(lengths.sum()) != n_tokens or bool((lengths < 0).any()):
        raise ValueError(
            f"lengths sum to {int(lengths.sum())} with minimum {int(lengths.min())}; they "
            f"should be at least 0 and sum to the {n_tokens} log-probabilities"
        )


def compare(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor | None,
    lengths: Tensor | None,
) -> tuple[Layout, Tensor, Tensor]:
    """Return the inputs common to token losses: layout, log-ratios and advantages."""
    layout = Layout.of(logprobs, mask, lengths)
    log_ratio = layout.log_ratio(logprobs, old_logprobs)
    return layout, log_ratio, layout.token_values(advantages, "advantages", log_ratio)


def bounded_exp(log_ratio: Tensor) -> Tensor:
    """Exponentiate log-ratios within the bound; beyond it the value is the bound's, the slope 0."""
    return log_ratio.clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND).exp()


def readable(values: Tensor) -> bool:
    """Whether `values` are plain float32 in memory: not on a GPU, not traced, not fake."""
    return (
        type(values) is Tensor
        and values.dtype == torch.float32
        and values.device.type == "cpu"
        and not torch.compiler.is_compiling()
    )


def sloped(value: Tensor, logprobs: Tensor, slopes: Tensor, layout: Layout) -> Tensor:
    """Return `value` with the gradient `slopes` for `logprobs`, both known in closed form.

    Autograd would walk back through every operation on the tokens. `slopes` broadcast over the
    tokens, as `Layout.spread` returns them; there is no second derivative.
    """
    if not (torch.is_grad_enabled() and logprobs.requires_grad):
        return value
    given = _exact(logprobs), value, slopes, layout.inside
    priced: Tensor = _Sloped.apply(*given)  # type: ignore[no-untyped-call]
    return priced


def to_device(values: Tensor, device: torch.device | str) -> Tensor:
    """Send a tensor to `device`; from the CPU to a GPU through pinned memory, without waiting.

    Parameters
    ----------
    values : Tensor
        Of any shape and dtype.
    device : torch.device or str
        Where it is wanted.

    Returns
    -------
    Tensor
        `values` itself if it is there already.

    Examples
    --------
    >>> values = torch.ones(2)
    >>> to_device(values, "cpu") is values
    True
    """
    device = torch.device(device)
    if values.device.type == "cpu" and device.type == "cuda":
        values = values.pin_memory()
    # To the CPU it has to be waited for: what is there would be read before it has come.
    return values.to(device, non_blocking=device.type == "cuda")


def _exact(values: Tensor) -> Tensor:
    """Return `values` in float32 at least: 1 + 3e-4 does not exist in bfloat16."""
    if values.dtype == torch.float16:
        widened: Tensor = _Widened.apply(values)  # type: ignore[no-untyped-call]
        return widened
    return values if values.dtype == torch.float64 else values.float()


def _totals(values: Tensor, lengths: Tensor) -> Tensor:
    # In order within each sequence, unlike index_add: the same bits on every run on a GPU.
    return torch.segment_reduce(values, "sum", lengths=lengths, initial=0, unsafe=True)


class _Total(torch.autograd.Function):
    """The sums of sequences that follow one another, and for the tokens the slope of theirs.

    Autograd's own has one thread of a GPU walk through each sequence.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, lengths: Tensor, owner: Tensor) -> Tensor:
        ctx.save_for_backward(owner)
        return _totals(values, lengths)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None]:
        return slope.index_select(0, ctx.saved_tensors[0]), None, None


class _Widened(torch.autograd.Function):
    """From float16 to float32, and back for the gradient, which must not become infinite there.

    A ratio of e^20 is a number in float32 only. A quarter of the largest float16, since a loss and
    its penalty use the log-probabilities up to four times, and their gradients are added up.
    """

    @staticmethod
    def forward(_ctx: Any, values: Tensor) -> Tensor:
        return values.float()

    @staticmethod
    def backward(_ctx: Any, slope: Tensor) -> Tensor:
        largest = torch.finfo(torch.float16).max / 4
        return slope.clamp(-largest, largest).half()


class _Sloped(torch.autograd.Function):
    """A value and the gradient that goes with it."""

    @staticmethod
    def forward(
        ctx: Any, _logprobs: Tensor, value: Tensor, slopes: Tensor, inside: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(slopes, inside)
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None, None]:
        slopes, inside = ctx.saved_tensors
        slopes = slope * slopes
        return slopes if inside is None else slopes * inside, None, None, None
