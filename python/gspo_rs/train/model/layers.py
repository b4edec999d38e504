"""Layers of a model in training: compilation and activation recomputation."""

from collections.abc import Callable
from typing import Any

import torch
from transformers.modeling_layers import GradientCheckpointingLayer

__all__ = ["ActivationsError", "compile_layers", "recompute_activations", "recomputes"]


class ActivationsError(ValueError):
    """A model whose activations cannot be recomputed; the message says why."""


@torch.no_grad()
def recompute_activations(
    model: Any, read: Callable[[Callable[[Any], Any]], Any] | None = None
) -> None:
    """Make the layers of a model store only their inputs and run again in the backward pass.

    Costs one more forward pass and saves the memory of what happens inside the layers.

    Parameters
    ----------
    model : transformers.PreTrainedModel or peft.PeftModel
        In eval mode. Only the flag `training` of its layers themselves is raised, by which
        transformers tells that a backward pass will follow; dropout inside them stays off.
    read : callable, optional
        Returns what a function of the model returns, where its weights are cut over processes.
        Called without gradient, after which they are cut again.

    Raises
    ------
    ActivationsError
        If the model has no such layers, or they compute something else in training.

    Examples
    --------
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> shape = dict(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    >>> model = LlamaForCausalLM(LlamaConfig(vocab_size=4, **shape)).eval()
    >>> recompute_activations(model)
    >>> model.model.layers[0].training, model.model.layers[0].mlp.training
    (True, False)
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    read = read or (lambda function: function(base))
    before = read(_probe)
    # The new name of the method; the old one warns where both are there.
    enable = getattr(base, "activation_checkpointing_enable", None)
    try:
        if enable is None:
            base.gradient_checkpointing_enable({"use_reentrant": False})
        else:
            enable({"use_reentrant": False})
    except ValueError as error:
        raise ActivationsError(f"{type(base).__name__}: {error}") from error
    for module in base.modules():
        if getattr(module, "gradient_checkpointing", False):
            module.training = True
    if not torch.equal(before, read(_probe)):
        for module in base.modules():
            module.training = False
        raise ActivationsError(
            f"{type(base).__name__} computes something else in training, such as dropout in its "
            "layers; set its dropout to 0 or leave gradient_checkpointing off"
        )


def recomputes(model: Any) -> bool:
    """Return whether `recompute_activations` has been done to a model."""
    return any(module.training for module in model.modules())


def compile_layers(model: Any) -> None:
    """Compile each layer of a model with `torch.compile`, for any shape.

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


@torch.no_grad()
def _probe(model: Any) -> torch.Tensor:
    ids = torch.tensor([[1, 2, 1, 2]], device=next(model.parameters()).device)
    logits: torch.Tensor = model(input_ids=ids, use_cache=False).logits
    return logits
