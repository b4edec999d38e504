"""One weight per sequence, computed from the whole optimizer step before it is cut.

Every loss is ``sum_i w_i * sum_t loss_it`` over these weights, so padding, packing, micro-batches
and ranks cannot change it.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

__all__ = ["Reduction", "sequence_weights"]

Reduction = Literal["seq_mean", "token_mean", "prompt_mean", "constant", "seq_sum"]


def sequence_weights(
    lengths: Any,
    reduction: Reduction = "seq_mean",
    groups: Any = None,
    budget: float | None = None,
) -> Tensor:
    """Weigh each token of each sequence so that the weighted losses sum to the loss of the step.

    Call it once per optimizer step, with every sequence of the step, and give each micro-batch its
    slice. With ``B`` the sequences that have a sampled token and ``L`` their lengths:

    ============= =============================== ===========================================
    `reduction`   weight of a token of sequence i the loss is
    ============= =============================== ===========================================
    seq_mean      1 / (B L_i)                     the mean over sequences of token means
    token_mean    1 / sum_j L_j                   the mean over tokens
    prompt_mean   1 / (P sum_{j in group i} L_j)  the mean over P groups of token means
    constant      1 / (B budget)                  the sum over tokens by a fixed length
    seq_sum       1 / B                           the mean over sequences of token sums
    ============= =============================== ===========================================

    Parameters
    ----------
    lengths : array_like or Tensor of int, shape (B,)
        Sampled tokens of each sequence. A sequence of length 0 gets weight 0 and is not counted.
        A sequence left out later (too long, rejected) should keep its length here, so that leaving
        it out does not raise the weight of the others.
    reduction : str
        One of the rows above.
    groups : array_like, Tensor, or object with ``codes``, shape (B,), optional
        The group of each sequence; only ``prompt_mean`` reads it.
    budget : float, optional
        The generation budget in tokens; only ``constant`` reads it.

    Returns
    -------
    Tensor of float64, shape (B,)
        On the device of `lengths` (the CPU for an array). The losses round it to their own dtype.

    Raises
    ------
    ValueError
        If `reduction` is unknown, or lacks its `groups` or a positive `budget`, or a length is
        negative, or `groups` has another shape than `lengths`.

    Notes
    -----
    ``prompt_mean`` is DAPO as printed, ``token_mean`` DAPO as mostly implemented, ``constant``
    Dr. GRPO, ``seq_mean`` GRPO and GSPO.

    References
    ----------
    .. [1] Q. Yu et al. (2025). DAPO. arXiv 2503.14476.
    .. [2] Z. Liu et al. (2025). Understanding R1-Zero-like training. arXiv 2503.20783.

    Examples
    --------
    >>> sequence_weights([4, 1, 0])
    tensor([0.1250, 0.5000, 0.0000], dtype=torch.float64)
    >>> sequence_weights([4, 1, 3], "prompt_mean", groups=["a", "a", "b"])
    tensor([0.1000, 0.1000, 0.1667], dtype=torch.float64)
    """
    tokens = torch.as_tensor(lengths).to(torch.float64)
    if tokens.dim() != 1 or bool((tokens < 0).any()):
        raise ValueError(f"lengths should be (B,) counts of at least 0, got {lengths!r}")
    live = tokens > 0
    n_sequences = live.sum().clamp(min=1).to(tokens.dtype)
    if reduction == "seq_mean":
        denominator = n_sequences * tokens
    elif reduction == "token_mean":
        denominator = tokens.sum()
    elif reduction == "prompt_mean":
        denominator = _prompt_tokens(tokens, groups)
    elif reduction == "constant":
        if budget is None or not budget > 0:
            raise ValueError(
                f"reduction 'constant' needs a positive budget in tokens, not {budget}"
            )
        denominator = n_sequences * budget
    elif reduction == "seq_sum":
        denominator = n_sequences
    else:
        raise ValueError(
            f"unknown reduction {reduction!r}; one of seq_mean, token_mean, prompt_mean, "
            "constant, seq_sum"
        )
    return torch.where(live, 1.0 / torch.where(live, denominator, 1.0), 0.0)


def _prompt_tokens(tokens: Tensor, groups: Any) -> Tensor:
    """Return for each sequence the tokens of its group times the number of groups with tokens."""
    if groups is None:
        raise ValueError("reduction 'prompt_mean' needs groups, one id per sequence")
    ids = getattr(groups, "codes", groups)
    ids = ids.numpy(force=True) if isinstance(ids, Tensor) else np.asarray(ids)
    if ids.shape != tuple(tokens.shape):
        raise ValueError(f"groups has shape {ids.shape}, lengths {tuple(tokens.shape)}")
    codes = torch.from_numpy(np.unique(ids, return_inverse=True)[1]).to(tokens.device)
    per_group = tokens.new_zeros(tokens.shape).index_add(0, codes, tokens)
    return (per_group > 0).sum() * per_group[codes]
