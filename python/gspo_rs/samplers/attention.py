"""Attention of our own in models of transformers: by a name that a model has while it reads."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

__all__ = ["Attention", "attending", "plain", "register"]

_TORCHS = "sdpa"
Attention = Callable[..., tuple[Tensor, Tensor | None]]


def register(name: str, attend: Attention) -> None:
    """Give transformers an attention under a name of ours: no other model attends otherwise for it.

    Parameters
    ----------
    name : str
        What `attending` is given.
    attend : callable
        Called as attention functions of transformers are, with masks as torch's attention gets
        them, and with `otherwise`, which attends as models with torch's attention do: they may
        have their own.
    """

    def ours(*given: Any, **options: Any) -> tuple[Tensor, Tensor | None]:
        return attend(*given, otherwise=ALL_ATTENTION_FUNCTIONS[_TORCHS], **options)

    AttentionInterface.register(name, ours)
    AttentionMaskInterface.register(name, _mask)


def _mask(*given: Any, **options: Any) -> Tensor | None:
    mask: Tensor | None = ALL_MASK_ATTENTION_FUNCTIONS[_TORCHS](*given, **options)
    return mask


@contextlib.contextmanager
def attending(model: Any, name: str) -> Iterator[bool]:
    """Let a model on a CPU attend by what is registered under a name; yield whether it does.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        With torch's attention, in float32; others are left as they are. Reads in this context.
    name : str
        Of what is registered.
    """
    device, config = model.device.type, model.config.get_text_config()
    before = getattr(config, "_attn_implementation", None)
    # Some models ask for the name of their attention where they should call it.
    calls_it = before in (_TORCHS, name) and model._can_set_attn_implementation()
    if device != "cpu" or not calls_it or torch.is_autocast_enabled(device):
        yield False
        return
    config._attn_implementation = name
    try:
        yield True
    finally:
        config._attn_implementation = before


def plain(options: dict[str, Any]) -> bool:
    """Return whether an attention function is asked for nothing but a softmax of scaled products.

    Examples
    --------
    >>> plain({"scaling": 0.5, "dropout": 0.0}), plain({"softcap": 30.0})
    (True, False)
    """
    return not any(options.get(name) for name in ("dropout", "softcap")) and all(
        options.get(name) is None for name in ("position_bias", "cache")
    )
