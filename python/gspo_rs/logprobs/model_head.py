"""What a language model does between the hidden states its head receives and its logits.

Letters: ``n`` tokens, ``D`` hidden size, ``V`` vocabulary, ``R`` rows and ``S`` columns of the
model's input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn

__all__ = ["OutputHead", "head_inputs"]

FACTORS = ("logit_scale", "lm_head_multiplier")
CAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")
"""What configurations call a factor of the logits, and a bound of them by tanh."""
SCALING = {"hyperclovax": 1, "minicpm3": 0}
"""Architecture → the power of `logits_scaling` that its logits are multiplied by: -1 in others, and
0 where the head receives hidden states that have been divided by it."""


@dataclass(frozen=True)
class OutputHead:
    """The output head of a model and what the model does to its logits afterwards."""

    module: nn.Module
    vocabulary: int
    scale: float
    cap: float | None

    @classmethod
    def of(cls, model: nn.Module) -> OutputHead:
        """Find the head of a model; ValueError if it has none."""
        find = getattr(model, "get_output_embeddings", None)
        module = None if find is None else find()
        if module is None:
            raise ValueError(
                f"{type(model).__name__} has no output head over a vocabulary; load it with "
                "AutoModelForCausalLM"
            )
        config: Any = model.config
        config = config.get_text_config()
        scale = 1.0
        for name in FACTORS:
            scale *= getattr(config, name, None) or 1.0
        scaling = getattr(config, "logits_scaling", None) or 1.0
        scale *= scaling ** SCALING.get(getattr(config, "model_type", ""), -1)
        caps = (getattr(config, name, None) for name in CAPS)
        cap = next((cap for cap in caps if cap is not None), None)
        return cls(module, config.vocab_size, float(scale), cap)

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the logits in float32 at least, (..., V)."""
        logits = self.module(hidden)
        logits = logits if logits.dtype == torch.float64 else logits.float()
        logits = logits * self.scale
        return logits if self.cap is None else torch.tanh(logits / self.cap) * self.cap


# Models whose logits were seen to be what `OutputHead` makes of their hidden states.
_verified: WeakSet[nn.Module] = WeakSet()


def head_inputs(
    model: nn.Module,
    head: OutputHead,
    input_ids: Tensor,
    attention_mask: Tensor | None,
    position_ids: Tensor | None,
) -> Tensor:
    """Run the model and return what its head was about to receive, (R, S, D)."""
    caught: list[Tensor] = []

    def catch(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
        caught.append(inputs[0])
        return (inputs[0][:, :1],)

    optional = {"attention_mask": attention_mask, "position_ids": position_ids}
    given = {name: value for name, value in optional.items() if value is not None}
    hook = head.module.register_forward_pre_hook(catch)
    try:
        output = model(input_ids=input_ids, use_cache=False, **given)
    finally:
        hook.remove()
    if len(caught) != 1 or caught[0].shape[:2] != input_ids.shape:
        raise ValueError(
            f"{type(model).__name__} does not call its head once with (R, S, D) hidden states, "
            f"but with {[tuple(x.shape) for x in caught]}; its log-probabilities cannot be taken"
        )
    if model not in _verified:
        _verify(model, head, output.logits, caught[0][:, :1])
        _verified.add(model)
    return caught[0]


@torch.no_grad()
def _verify(model: nn.Module, head: OutputHead, logits: Tensor, hidden: Tensor) -> None:
    """Compare the logits (R, 1, V) of the model with those `head` makes of the same positions."""
    expected = head.logits(hidden)
    precision = 1e-4 if logits.dtype in (torch.float32, torch.float64) else 3e-2
    same = logits.shape == expected.shape and torch.allclose(
        logits.to(expected.dtype),
        expected,
        rtol=0.0,
        # A model that has diverged is no reason to misread its head.
        atol=precision * float(expected.nan_to_num().abs().max()),
        equal_nan=True,
    )
    if not same:
        raise ValueError(
            f"{type(model).__name__} turns the output of its head into other logits than by "
            f"{', '.join(FACTORS)}, logits_scaling, {' or '.join(CAPS)} of its config; "
            "its log-probabilities would be wrong"
        )
