"""The layers of a model, compiled for training."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from transformers.modeling_layers import GradientCheckpointingLayer

__all__ = ["compile_layers", "uncompiled"]


def compile_layers(model: Any) -> None:
    """Have `torch.compile` fuse what happens inside each layer of a model, for any shape.

    Layer by layer, not the model as a whole: the layers are alike, so one compilation serves all
    of them, and what a model does around them stays as it is.

    Parameters
    ----------
    model : transformers.PreTrainedModel or peft.PeftModel
        Its state keeps its names. Needs a compiler: g++ on a CPU, Triton on a GPU.

    Raises
    ------
    ValueError
        If no layer is found.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, GradientCheckpointingLayer)]
    if not layers:
        raise ValueError(
            f"{type(model).__name__} has no layers to compile; leave torch_compile off"
        )
    for layer in layers:
        layer.compile(dynamic=True)


def uncompiled() -> contextlib.AbstractContextManager[None]:
    """Run layers as they were written: a cache that grows by a token would be compiled anew."""
    stance: contextlib.AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
    return stance
