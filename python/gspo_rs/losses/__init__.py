"""Policy losses that use only the log-probabilities of sampled tokens, and their gradients.

Every loss is minimised and is a sum over the tokens of weights times terms; with weights that
`sequence_weights` computed from the whole optimizer step, the losses and gradients of its
micro-batches add up to those of the step, however it is cut. The losses of a group compare
sequences and need whole groups. Ratios are float32 (float64 for float64 input); nothing but the
losses of groups waits for the GPU.
"""

from gspo_rs.losses.band import Level
from gspo_rs.losses.correction import (
    Correction,
    mismatch_metrics,
    off_policy_mask,
    sampler_correction,
)
from gspo_rs.losses.group_order import sequence_scores
from gspo_rs.losses.kl import kl_penalty
from gspo_rs.losses.linear import linear_gspo_loss, linear_sequence_loss
from gspo_rs.losses.listwise import (
    dpo_loss,
    ipo_loss,
    pairwise_loss,
    plackett_luce_loss,
    top_fraction_loss,
)
from gspo_rs.losses.metrics import policy_metrics
from gspo_rs.losses.quantile import qrpo_loss
from gspo_rs.losses.reductions import Reduction, distributed_weights, sequence_weights, step_counts
from gspo_rs.losses.sequence import gmpo_loss, gspo_loss, gspo_token_loss, luspo_loss
from gspo_rs.losses.token import grpo_loss, sapo_loss
from gspo_rs.losses.weighted import cispo_loss, dppo_loss, reinforce_loss, vespo_loss

__all__ = [
    "Correction",
    "Level",
    "Reduction",
    "cispo_loss",
    "distributed_weights",
    "dpo_loss",
    "dppo_loss",
    "gmpo_loss",
    "grpo_loss",
    "gspo_loss",
    "gspo_token_loss",
    "ipo_loss",
    "kl_penalty",
    "linear_gspo_loss",
    "linear_sequence_loss",
    "luspo_loss",
    "mismatch_metrics",
    "off_policy_mask",
    "pairwise_loss",
    "plackett_luce_loss",
    "policy_metrics",
    "qrpo_loss",
    "reinforce_loss",
    "sampler_correction",
    "sapo_loss",
    "sequence_scores",
    "sequence_weights",
    "step_counts",
    "top_fraction_loss",
    "vespo_loss",
]
