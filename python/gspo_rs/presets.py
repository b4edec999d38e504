"""Presets: what the name of an algorithm stands for."""

from dataclasses import dataclass
from typing import Literal

Loss = Literal["gspo", "gspo_token", "grpo"]
Reduction = Literal["seq_mean", "token_mean", "prompt_mean", "constant", "seq_sum"]


@dataclass(frozen=True)
class Preset:
    """The four independent choices that an algorithm's name stands for.

    Attributes
    ----------
    advantage : str
        Estimator of `gspo_rs.advantage`.
    loss : {"gspo", "gspo_token", "grpo"}
        Ratio level and gradient: one ratio per sequence, the same with a gradient per token, or
        one ratio per token.
    clip_low, clip_high : float
        The ratio may move in ``[1 - clip_low, 1 + clip_high]``; follows the ratio's level.
    reduction : str
        `gspo_rs.losses.sequence_weights` of the whole optimizer step.
    """

    advantage: str
    loss: Loss
    clip_low: float
    clip_high: float
    reduction: Reduction


# Sources: GSPO 2507.18071; GRPO 2402.03300; DAPO 2503.14476; Dr. GRPO 2503.20783; RLOO 2402.14740.
# The percentile advantage of `gspo` is this project's: group-sensitive preference.
PRESETS = {
    "gspo": Preset("percentile", "gspo", 3e-4, 4e-4, "seq_mean"),
    "gspo_token": Preset("percentile", "gspo_token", 3e-4, 4e-4, "seq_mean"),
    "grpo": Preset("zscore", "grpo", 0.2, 0.2, "seq_mean"),
    "dapo": Preset("zscore", "grpo", 0.2, 0.28, "token_mean"),
    "dr_grpo": Preset("mean", "grpo", 0.2, 0.2, "constant"),
    "rloo": Preset("rloo", "grpo", 0.2, 0.2, "seq_sum"),
}

# The clip that suits a ratio's level, for a loss that replaces the one of its preset.
CLIPS = {"gspo": (3e-4, 4e-4), "gspo_token": (3e-4, 4e-4), "grpo": (0.2, 0.2)}
