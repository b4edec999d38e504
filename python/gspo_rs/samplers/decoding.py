"""The loop that decodes: transformers prepares a model and reads it, we draw.

Letters: ``R`` prompts, ``B`` rows of one call (prompts times generations), ``b`` of them that are
still decoded, ``P`` longest prompt, ``n`` tokens so far, ``V`` vocabulary.
"""

from typing import Any

import torch
from torch import Tensor

from gspo_rs.samplers.completions import Completions
from gspo_rs.samplers.growing_cache import grow, keeps_rows_apart
from gspo_rs.samplers.progress import Progress
from gspo_rs.samplers.single_query import single_queries
from gspo_rs.samplers.token_sampler import TokenSampler

__all__ = ["decode"]


def decode(
    model: Any,
    input_ids: Tensor,
    *,
    repeats: int,
    completions: Completions,
    sampler: TokenSampler,
    progress: Progress | None,
    **inputs: Any,
) -> Tensor:
    """Draw the completions of some prompts: a ``custom_generate`` of transformers.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Reads.
    input_ids : Tensor of int64, shape (R, P)
        The prompts, padded on the left.
    repeats : int
        Completions of each.
    completions : Completions
        Of ``B`` rows, prompt after prompt; gets them.
    sampler : TokenSampler
        Draws; has begun these rows.
    progress : Progress or None
        Gets how many have ended.
    **inputs
        What transformers has prepared for the model's forward pass, its empty cache included, and
        what it gives every loop.

    Returns
    -------
    Tensor of int64, shape (b, n)
        Prompts and completions of the rows that were decoded last.

    Notes
    -----
    Where the cache holds keys and values alone, a prompt is read once for its whole group, no token
    copies those before it, and rows that have ended leave. Other memory, such as a recurrent
    state, is of a kind that only the model knows: there every row reads its prompt and stays.
    """
    for name in ("generation_config", "logits_processor", "stopping_criteria"):
        del inputs[name]
    cache: Any = inputs.get("past_key_values")
    apart = keeps_rows_apart(cache)
    # Other products of experts, on a GPU; other products of attention, on a CPU.
    with model._optimize_model_for_decode(), single_queries(model) as transposed:
        if apart:
            grow(cache, input_ids.shape[1] + completions.most - 1, transposed=transposed)
        else:
            input_ids, inputs = _repeated(input_ids, inputs, repeats)
        logits, inputs = _read(model, input_ids, inputs, first=True)
        if apart:
            logits = logits.repeat_interleave(repeats, dim=0)
            input_ids, inputs = _repeated(input_ids, inputs, repeats)
            cache.batch_repeat_interleave(repeats)
        while True:
            tokens, logprobs = sampler.draw(logits, completions.rows)
            completions.add(tokens, logprobs)
            if progress is not None:
                progress.look(completions.over)
            input_ids = torch.cat([input_ids, tokens[:, None]], dim=1)  # (b, n)
            if completions.full:
                return input_ids
            if apart and (stay := completions.leave()) is not None:
                input_ids, inputs = _chosen(input_ids, inputs, stay)
                cache.batch_select_indices(stay)
            logits, inputs = _read(model, input_ids, inputs, first=False)


def _read(
    model: Any, input_ids: Tensor, inputs: dict[str, Any], *, first: bool
) -> tuple[Tensor, dict[str, Any]]:
    """Return the logits of the next token of each row, (b, V), and what the next pass gets."""
    whole = first or not inputs["use_cache"]
    given = model.prepare_inputs_for_generation(
        input_ids,
        next_sequence_length=None if whole else 1,
        is_first_iteration=first,
        **inputs,
    )
    output = model(**given, return_dict=True)
    inputs = model._update_model_kwargs_for_generation(output, inputs)
    return output.logits[:, -1], inputs


def _repeated(
    input_ids: Tensor, inputs: dict[str, Any], repeats: int
) -> tuple[Tensor, dict[str, Any]]:
    """Repeat each row of tokens, mask and positions."""
    rows = torch.arange(len(input_ids), device=input_ids.device).repeat_interleave(repeats)
    return _chosen(input_ids, inputs, rows)


def _chosen(
    input_ids: Tensor, inputs: dict[str, Any], rows: Tensor
) -> tuple[Tensor, dict[str, Any]]:
    """Choose rows of tokens, mask and positions; positions without padding are one row for all."""
    chosen = {
        name: value[rows] if torch.is_tensor(value) and len(value) == len(input_ids) else value
        for name, value in inputs.items()
    }
    return input_ids[rows], chosen
