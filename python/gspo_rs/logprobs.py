"""Log-probabilities of given tokens under a language model, without the matrix of all logits.

Letters: ``n`` tokens, ``D`` hidden size, ``V`` vocabulary, ``R`` rows and ``S`` columns of the
model's input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, overload
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gspo_rs.linear_head import default_chunk_size, linear_logprobs

__all__ = ["default_chunk_size", "linear_logprobs", "model_logprobs"]


@overload
def model_logprobs(
    model: nn.Module,
    input_ids: Tensor,
    *,
    positions: Tensor,
    targets: Tensor,
    attention_mask: Tensor | None = ...,
    position_ids: Tensor | None = ...,
    temperature: float = ...,
    return_entropy: Literal[False] = ...,
) -> Tensor: ...
@overload
def model_logprobs(
    model: nn.Module,
    input_ids: Tensor,
    *,
    positions: Tensor,
    targets: Tensor,
    attention_mask: Tensor | None = ...,
    position_ids: Tensor | None = ...,
    temperature: float = ...,
    return_entropy: Literal[True],
) -> tuple[Tensor, Tensor]: ...
@overload
def model_logprobs(
    model: nn.Module,
    input_ids: Tensor,
    *,
    positions: Tensor,
    targets: Tensor,
    attention_mask: Tensor | None = ...,
    position_ids: Tensor | None = ...,
    temperature: float = ...,
    return_entropy: bool,
) -> Tensor | tuple[Tensor, Tensor]: ...
def model_logprobs(
    model: nn.Module,
    input_ids: Tensor,
    *,
    positions: Tensor,
    targets: Tensor,
    attention_mask: Tensor | None = None,
    position_ids: Tensor | None = None,
    temperature: float = 1.0,
    return_entropy: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Return the log-probability a causal language model gives each target.

    Parameters
    ----------
    model : torch.nn.Module
        A Hugging Face causal language model, also with a PEFT adapter. Its mode (train or eval) is
        left as it is.
    input_ids : Tensor of int64, shape (R, S)
        Right-padded rows, or sequences packed end to end into one row.
    positions : Tensor of int64, shape (n,)
        Places in the flattened ``(R * S,)`` input whose next token is asked.
    targets : Tensor of int64, shape (n,)
        Those next tokens.
    attention_mask : Tensor, shape (R, S), optional
        As the model takes it.
    position_ids : Tensor of int64, shape (R, S) or (1, S), optional
        Restarting at 0 for each sequence of a packed row: from that, without an attention mask,
        Transformers tells the sequences apart.
    temperature : float
        Positive; the logits are divided by it before the softmax.
    return_entropy : bool
        Whether to return the entropy of each token's distribution as well.

    Returns
    -------
    logprobs : Tensor, shape (n,)
        In nats, float32 (float64 for a float64 model), with gradients for the model.
    entropy : Tensor, shape (n,), only with `return_entropy`
        In nats, same dtype, detached.

    Raises
    ------
    ValueError
        If the model has no output head, or computes its logits from the head in a way that is not
        known here.

    Notes
    -----
    The model runs with its head fed one position per row; what the head was about to receive is
    caught, and only the asked positions go through it, in chunks. On the first call with a model
    the logits of those positions are compared with what this module makes of them, so that a model
    that does something else to its logits is refused and not trained towards a wrong likelihood.

    Examples
    --------
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> shape = dict(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    >>> model = LlamaForCausalLM(LlamaConfig(vocab_size=4, **shape))
    >>> _ = model.lm_head.weight.data.zero_()
    >>> model_logprobs(
    ...     model,
    ...     torch.tensor([[3, 1, 2]]),
    ...     positions=torch.tensor([0, 1]),
    ...     targets=torch.tensor([1, 2]),
    ... ).detach()
    tensor([-1.3863, -1.3863])
    """
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; it should be positive")
    head = _Head.of(model)
    hidden = _hidden(model, head, input_ids, attention_mask, position_ids)
    hidden = hidden.flatten(0, 1).index_select(0, positions)  # (n, D)
    if type(head.module) is not nn.Linear:
        logprobs, entropy = _checkpointed(head, hidden, targets, temperature)
        return (logprobs, entropy) if return_entropy else logprobs
    return linear_logprobs(
        hidden,
        head.module.weight,
        targets,
        bias=head.module.bias,
        # The scale comes before the cap, the temperature after it.
        temperature=temperature / head.scale,
        softcap=None if head.cap is None else head.cap / head.scale,
        return_entropy=return_entropy,
    )


@dataclass(frozen=True)
class _Head:
    """The output head of a model and what the model does to its logits afterwards."""

    module: nn.Module
    vocabulary: int
    scale: float
    cap: float | None

    @classmethod
    def of(cls, model: nn.Module) -> _Head:
        find = getattr(model, "get_output_embeddings", None)
        module = None if find is None else find()
        if module is None:
            raise ValueError(
                f"{type(model).__name__} has no output head over a vocabulary; load it with "
                "AutoModelForCausalLM"
            )
        config: Any = model.config
        config = config.get_text_config()
        scale = getattr(config, "logit_scale", None) or 1.0
        scale /= getattr(config, "logits_scaling", None) or 1.0
        cap = getattr(config, "final_logit_softcapping", None)
        return cls(module, config.vocab_size, float(scale), cap)

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the logits in float32 at least, (..., V)."""
        logits = self.module(hidden)
        logits = logits if logits.dtype == torch.float64 else logits.float()
        logits = logits * self.scale
        return logits if self.cap is None else torch.tanh(logits / self.cap) * self.cap


# Models whose logits were seen to be what `_Head` makes of their hidden states.
_verified: WeakSet[nn.Module] = WeakSet()


def _hidden(
    model: nn.Module,
    head: _Head,
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
def _verify(model: nn.Module, head: _Head, logits: Tensor, hidden: Tensor) -> None:
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
            "logit_scale, logits_scaling or final_logit_softcapping of its config; "
            "its log-probabilities would be wrong"
        )


def _checkpointed(
    head: _Head, hidden: Tensor, targets: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Take the chunks through a head that is no plain matrix, computing each again backward."""

    def chunk(rows: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        logprobs = (head.logits(rows) / temperature).log_softmax(dim=-1)  # (chunk, V)
        with torch.no_grad():
            entropy = torch.special.entr(logprobs.exp()).sum(dim=-1)
        return logprobs.gather(1, wanted[:, None])[:, 0], entropy

    size = default_chunk_size(head.vocabulary)
    pieces = zip(torch.split(hidden, size), torch.split(targets, size), strict=True)
    parts = [checkpoint(chunk, *piece, use_reentrant=False) for piece in pieces]
    logprobs, entropy = zip(*parts, strict=True)
    return torch.cat(logprobs), torch.cat(entropy)
