"""One weight per sequence, computed from the whole optimizer step before it is cut.

Every loss is ``sum_i w_i * sum_t loss_it`` over these weights, so padding, packing, micro-batches
and ranks cannot change it.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from gspo_rs.groups.synonyms import REDUCTIONS, listed

__all__ = ["Reduction", "distributed_weights", "sequence_weights", "step_counts"]

Reduction = Literal["seq_mean", "token_mean", "prompt_mean", "constant", "seq_sum"]


def sequence_weights(
    lengths: Any,
    reduction: Reduction = "seq_mean",
    groups: Any = None,
    budget: float | None = None,
    *,
    counts: Tensor | None = None,
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
    counts : Tensor, shape (3,), optional
        Where this is a part of the step: the sum of `step_counts` over all its parts, each of
        which must hold whole groups for ``prompt_mean``.

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
    counts = step_counts(lengths, groups) if counts is None else counts.to(tokens)
    n_sequences, n_tokens, n_groups = counts.clamp(min=1)
    if reduction == "seq_mean":
        denominator = n_sequences * tokens
    elif reduction == "token_mean":
        denominator = n_tokens
    elif reduction == "prompt_mean":
        denominator = n_groups * _group_tokens(tokens, _codes(groups, tokens))
    elif reduction == "constant":
        if budget is None or not budget > 0:
            raise ValueError(
                f"reduction 'constant' needs a positive budget in tokens, not {budget}"
            )
        denominator = n_sequences * budget
    elif reduction == "seq_sum":
        denominator = n_sequences
    else:
        known = listed(reduction, get_args(Reduction), REDUCTIONS)
        raise ValueError(f"unknown reduction {reduction!r}; one of {known}")
    return torch.where(live, 1.0 / torch.where(live, denominator, 1.0), 0.0)


def step_counts(lengths: Any, groups: Any = None) -> Tensor:
    """Count what the weights divide by, in a form that adds up over the parts of a step.

    Sum it over the micro-batches of a step, or all-reduce it over ranks, and give the sum to
    `sequence_weights` as `counts`.

    Parameters
    ----------
    lengths : array_like or Tensor of int, shape (B,)
        Sampled tokens of each sequence of this part.
    groups : array_like, Tensor, or object with ``codes``, shape (B,), optional
        The group of each sequence, whole groups in a part; without them their count is 0.

    Returns
    -------
    Tensor of float64, shape (3,)
        Sequences with a token, tokens, groups with a token.

    Raises
    ------
    ValueError
        If `groups` has another shape than `lengths`.

    Examples
    --------
    >>> step_counts([4, 1, 0], ["a", "a", "b"]).tolist()
    [2.0, 5.0, 1.0]
    """
    tokens = torch.as_tensor(lengths).to(torch.float64)
    n_groups = tokens.new_zeros(())
    if groups is not None:
        codes = _codes(groups, tokens)
        n_groups = (tokens.new_zeros(tokens.shape).index_add(0, codes, tokens) > 0).sum()
    return torch.stack([(tokens > 0).sum().to(tokens), tokens.sum(), n_groups.to(tokens)])


def distributed_weights(
    lengths: Any,
    reduction: Reduction = "seq_mean",
    groups: Any = None,
    budget: float | None = None,
    *,
    process_group: Any = None,
) -> Tensor:
    """Weigh the sequences of this rank so that averaged gradients are those of the whole step.

    Call it on every rank, once per optimizer step, before the first backward.

    Parameters
    ----------
    lengths, reduction, groups, budget
        As in `sequence_weights`, for all sequences of this rank's share of the step. For
        ``prompt_mean`` a rank holds whole groups. A rank without sequences passes empty lengths.
    process_group : torch.distributed.ProcessGroup, optional
        The ranks that average their gradients; by default all.

    Returns
    -------
    Tensor of float64, shape (B,)
        As of one process, times the number of ranks: data parallelism averages where one process
        sums.

    Raises
    ------
    ValueError
        As `sequence_weights`.
    """
    counts = step_counts(lengths, groups)
    torch.distributed.all_reduce(counts, group=process_group)
    ranks = torch.distributed.get_world_size(process_group)
    return ranks * sequence_weights(lengths, reduction, groups, budget, counts=counts)


def _codes(groups: Any, tokens: Tensor) -> Tensor:
    """Return the number of each sequence's group, from 0."""
    if groups is None:
        raise ValueError("reduction 'prompt_mean' needs groups, one id per sequence")
    ids = getattr(groups, "codes", groups)
    ids = ids.numpy(force=True) if isinstance(ids, Tensor) else np.asarray(ids)
    if ids.shape != tuple(tokens.shape):
        raise ValueError(f"groups has shape {ids.shape}, lengths {tuple(tokens.shape)}")
    return torch.from_numpy(np.unique(ids, return_inverse=True)[1]).to(tokens.device)


def _group_tokens(tokens: Tensor, codes: Tensor) -> Tensor:
    """Return for each sequence the tokens of its group."""
    return tokens.new_zeros(tokens.shape).index_add(0, codes, tokens)[codes]
