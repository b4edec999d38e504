"""Log-probabilities of given tokens under a language model, without the matrix of all logits.

Letters: ``n`` tokens, ``D`` hidden size, ``V`` vocabulary, ``R`` rows and ``S`` columns of the
model's input.
"""

from __future__ import annotations

from dataclasses import asdict

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gspo_rs.logprobs.chunk import Scaling, default_chunk_size
from gspo_rs.logprobs.fused import Loss, one_pass_with_entropy, slopes_of
from gspo_rs.logprobs.linear import linear_logprobs, linear_logprobs_and_entropy
from gspo_rs.logprobs.model_head import OutputHead, head_inputs

__all__ = [
    "default_chunk_size",
    "linear_logprobs",
    "linear_logprobs_and_entropy",
    "model_logprobs",
    "model_logprobs_and_entropy",
    "model_one_pass",
]


def model_logprobs(
    model: nn.Module,
    input_ids: Tensor,
    *,
    positions: Tensor,
    targets: Tensor,
    attention_mask: Tensor | None = None,
    position_ids: Tensor | None = None,
    temperature: float = 1.0,
    chunk_size: int | None = None,
) -> Tensor:
    """Return the log-probability of each target under a causal language model.

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
    chunk_size : int, optional
        Tokens taken at once, as in `linear_logprobs`.

    Returns
    -------
    Tensor, shape (n,)
        In nats, float32 (float64 for a float64 model), with gradients for the model.

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
    layout = attention_mask, position_ids
    head, hidden = _asked(model, input_ids, positions, *layout, temperature=temperature)
    if type(head.module) is not nn.Linear:
        return _checkpointed(head, hidden, targets, temperature, chunk_size)[0]
    plain, options = head.module, asdict(_scaling(head, temperature))
    options["chunk_size"] = chunk_size
    return linear_logprobs(hidden, plain.weight, targets, bias=plain.bias, **options)


def model_logprobs_and_entropy(
    model: nn.Module,
    input_ids: Tensor,
    *,
    positions: Tensor,
    targets: Tensor,
    attention_mask: Tensor | None = None,
    position_ids: Tensor | None = None,
    temperature: float = 1.0,
    chunk_size: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Return `model_logprobs`, and the entropy of each token's distribution, in the same pass.

    Parameters
    ----------
    model, input_ids, positions, targets, attention_mask, position_ids, temperature, chunk_size
        As in `model_logprobs`.

    Returns
    -------
    logprobs : Tensor, shape (n,)
        As `model_logprobs` returns them.
    entropy : Tensor, shape (n,)
        In nats, same dtype, detached.

    Raises
    ------
    ValueError
        As `model_logprobs` does.

    Examples
    --------
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> shape = dict(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    >>> model = LlamaForCausalLM(LlamaConfig(vocab_size=4, **shape))
    >>> _ = model.lm_head.weight.data.zero_()
    >>> ids, places = torch.tensor([[3, 1, 2]]), torch.tensor([0, 1])
    >>> model_logprobs_and_entropy(model, ids, positions=places, targets=ids[0, 1:])[1]
    tensor([1.3863, 1.3863])
    """
    layout = attention_mask, position_ids
    head, hidden = _asked(model, input_ids, positions, *layout, temperature=temperature)
    if type(head.module) is not nn.Linear:
        return _checkpointed(head, hidden, targets, temperature, chunk_size)
    plain, options = head.module, asdict(_scaling(head, temperature))
    options["chunk_size"] = chunk_size
    return linear_logprobs_and_entropy(hidden, plain.weight, targets, bias=plain.bias, **options)


def model_one_pass(
    model: nn.Module,
    input_ids: Tensor,
    *,
    positions: Tensor,
    targets: Tensor,
    loss: Loss,
    lengths: list[int] | None,
    position_ids: Tensor | None = None,
    temperature: float = 1.0,
    chunk_size: int | None = None,
    near: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradient of a loss of `model_logprobs`, those, and entropies, in the same pass.

    Parameters
    ----------
    model, input_ids, positions, targets, position_ids, temperature, chunk_size
        As in `model_logprobs`; `positions` are those of sequence after sequence.
    loss : callable
        Whose slopes `one_pass` takes; see `slopes_of`.
    lengths, near
        As in `one_pass`.

    Returns
    -------
    gradient : Tensor, scalar
        0; its backward pass is that of the loss of all tokens.
    logprobs, entropy : Tensor, shape (n,)
        As `model_logprobs_and_entropy` returns them, detached.

    Raises
    ------
    ValueError
        As `model_logprobs` does.

    Notes
    -----
    A head that is not one matrix, such as one with a LoRA adapter, is computed again in the
    backward pass, as in `model_logprobs`.

    Examples
    --------
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> shape = dict(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    >>> model = LlamaForCausalLM(LlamaConfig(vocab_size=4, **shape))
    >>> gradient, logprobs, _ = model_one_pass(
    ...     model,
    ...     torch.tensor([[3, 1, 2]]),
    ...     positions=torch.tensor([0, 1]),
    ...     targets=torch.tensor([1, 2]),
    ...     loss=lambda logprobs, tokens, rows: -logprobs.sum(),
    ...     lengths=None,
    ... )
    >>> gradient.detach(), logprobs.requires_grad, gradient.requires_grad
    (tensor(0.), False, True)
    """
    layout = None, position_ids
    head, hidden = _asked(model, input_ids, positions, *layout, temperature=temperature)
    if type(head.module) is not nn.Linear:
        logprobs, entropy = _checkpointed(head, hidden, targets, temperature, chunk_size)
        value = loss(logprobs, slice(None), slice(None))
        return value - value.detach(), logprobs.detach(), entropy
    return one_pass_with_entropy(
        hidden,
        head.module.weight,
        targets,
        slopes_of(loss),
        lengths=lengths,
        bias=head.module.bias,
        scaling=_scaling(head, temperature),
        chunk_size=chunk_size,
        near=near,
    )


def _asked(
    model: nn.Module,
    input_ids: Tensor,
    positions: Tensor,
    attention_mask: Tensor | None,
    position_ids: Tensor | None,
    *,
    temperature: float,
) -> tuple[OutputHead, Tensor]:
    """Run the model up to its head; return the head and its input at the positions, (n, D)."""
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; it should be positive")
    head = OutputHead.of(model)
    hidden = head_inputs(model, head, input_ids, attention_mask, position_ids)
    return head, hidden.flatten(0, 1).index_select(0, positions)


def _scaling(head: OutputHead, temperature: float) -> Scaling:
    # The scale comes before the cap, the temperature after it.
    cap = None if head.cap is None else head.cap / head.scale
    return Scaling(temperature / head.scale, cap)


def _checkpointed(
    head: OutputHead, hidden: Tensor, targets: Tensor, temperature: float, chunk_size: int | None
) -> tuple[Tensor, Tensor]:
    """Take the chunks through a head that is no plain matrix, computing each again backward."""

    def chunk(rows: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        logprobs = (head.logits(rows) / temperature).log_softmax(dim=-1)  # (chunk, V)
        with torch.no_grad():
            entropy = torch.special.entr(logprobs.exp()).sum(dim=-1)
        return logprobs.gather(1, wanted[:, None])[:, 0], entropy

    # The default of a CPU everywhere: autograd keeps several matrices of these logits.
    size = chunk_size or default_chunk_size(head.vocabulary)
    pieces = zip(torch.split(hidden, size), torch.split(targets, size), strict=True)
    parts = [checkpoint(chunk, *piece, use_reentrant=False) for piece in pieces]
    logprobs, entropy = zip(*parts, strict=True)
    return torch.cat(logprobs), torch.cat(entropy)
