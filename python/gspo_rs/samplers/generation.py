"""Generation with transformers for a few prompts, padded and cached as the model allows.

Letters: ``B`` rows of one call (prompts times generations), ``P`` longest prompt, ``T`` longest
completion.
"""

import contextlib
import copy
import inspect
import warnings
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from transformers import DynamicCache, GenerationConfig
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from gspo_rs.samplers.completions import Completions, Drawn
from gspo_rs.samplers.decoding import decode
from gspo_rs.samplers.progress import Progress
from gspo_rs.samplers.stop_strings import StopStrings
from gspo_rs.samplers.token_sampler import TokenSampler


class GenerationError(ValueError):
    """A model that transformers cannot sample from; the message names its class and the reason."""


@contextlib.contextmanager
def generating(model: Any) -> Iterator[Any]:
    """Yield the transformers model in eval mode, without the generation defaults it came with.

    Eval mode also stops gradient checkpointing, which would switch the cache off. The defaults,
    such as a repetition penalty, would be merged into ours and make another policy of it.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    training = [module for module in model.modules() if module.training]
    defaults = base.generation_config
    base.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]
    model.eval()
    try:
        with _without_gradient(model), _uncompiled():
            yield base
    finally:
        base.generation_config = defaults
        for module in training:
            module.training = True


def _without_gradient(model: Any) -> contextlib.AbstractContextManager[None]:
    """Run without gradient, fast: inference mode has no cache of the weights that autocast casts.

    Without that cache each weight is cast anew for each token. And what is gathered in inference
    mode of weights that are cut over processes could not be trained afterwards.
    """
    cut = any(isinstance(module, FSDPModule) for module in model.modules())
    if cut or torch.is_autocast_enabled(model.device.type):
        return torch.no_grad()
    mode: contextlib.AbstractContextManager[None] = torch.inference_mode()
    return mode


def _uncompiled() -> contextlib.AbstractContextManager[None]:
    """Run layers as they were written: a cache that grows by a token would be compiled anew."""
    stance: contextlib.AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
    return stance


@contextlib.contextmanager
def sampled_from(model: Any) -> Iterator[None]:
    """Name the model in what transformers raises where it cannot sample from it.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        From `generating`.

    Raises
    ------
    GenerationError
        In place of an AttributeError, LookupError, RuntimeError, TypeError or ValueError.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise GenerationError(
            f"transformers cannot sample from {type(model).__name__}:"
            f" {type(error).__name__}: {error}"
        ) from error


def complete(
    model: Any,
    prompts: Mapping[int, list[int]],
    generations: range,
    *,
    config: GenerationConfig,
    sampler: TokenSampler,
    stops: StopStrings | None = None,
    progress: Progress | None = None,
) -> list[Drawn]:
    """Generate for all of `prompts`: at once, or those of one length at once.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        From `generating`.
    prompts : mapping of int to list of int
        The tokens of each, none empty, by the number that it has in the draws.
    generations : range
        Which completions of each.
    config : transformers.GenerationConfig
        Of greedy search.
    sampler : TokenSampler
        Which draws.
    stops : StopStrings, optional
        Which ends a row at a stop string.
    progress : Progress, optional
        Reports how many completions are done.

    Returns
    -------
    list of Drawn
        Prompt after prompt.

    Raises
    ------
    FloatingPointError
        If the logits of the model are not finite.
    GenerationError
        If transformers' generation fails with the model.
    """
    config = copy.copy(config)
    config.use_cache = _has_cache(model)
    together = [list(prompts)] if _bears_padding(model) else _of_one_length(prompts)
    drawn: dict[int, list[Drawn]] = {}
    for numbers in together:
        some = [prompts[number] for number in numbers]
        rows = [(number, generation) for number in numbers for generation in generations]
        sampler.begin(rows)
        if stops is not None:
            stops.begin(rows)
        parts: dict[str, Any] = {"sampler": sampler, "stops": stops, "progress": progress}
        found = iter(_at_once(model, some, len(generations), config=config, **parts))
        drawn |= {number: [next(found) for _ in generations] for number in numbers}
    return [one for number in prompts for one in drawn[number]]


def context_of(model: Any) -> int | None:
    """Return the most tokens of a sequence; None where there is no limit, or one below 1.

    Parameters
    ----------
    model : transformers.PreTrainedModel or peft.PeftModel
        Whose configuration tells.

    Returns
    -------
    int or None
    """
    found: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return found if found is not None and found > 0 else None


def _of_one_length(prompts: Mapping[int, list[int]]) -> list[list[int]]:
    """Return the numbers of the prompts of each length."""
    lengths = dict.fromkeys(map(len, prompts.values()))
    return [[number for number, some in prompts.items() if len(some) == k] for k in lengths]


def _cache(model: Any) -> DynamicCache | None:
    """Return an empty cache of a model; None if transformers can't tell what its layers keep."""
    try:
        return DynamicCache(config=model.config)
    except AttributeError:  # a configuration of several parts, without layers of its own
        return None


def _layers(model: Any) -> set[type]:
    """Return the kinds of memory that the layers of a model keep, as transformers knows them."""
    cache = _cache(model)
    return set() if cache is None else {type(layer) for layer in cache.layers}


def _takes(model: Any, *names: str) -> bool:
    return set(names) <= set(inspect.signature(model.forward).parameters)


def _bears_padding(model: Any) -> bool:
    """Return whether padding to the left of a prompt leaves its completions as they are.

    A mask hides it from attention. It does not from a recurrent state or a convolution, nor from
    blocks of compressed tokens; and a model that gets no positions counts the padding.
    """
    plain = {DynamicLayer, DynamicSlidingWindowLayer}
    takes = _takes(model, "attention_mask", "position_ids", "past_key_values")
    layers = _layers(model)
    return takes and bool(layers) and layers <= plain


def _has_cache(model: Any) -> bool:
    """Return whether a cache in generation leaves the completions of a model as they are.

    Transformers asks a cache for its length, which one without a layer of attention does not know:
    so a hybrid that is configured as all recurrent. Memory of another kind than its caches, such
    as RWKV's state, it does not keep apart for the rows of a batch.
    """
    if _takes(model, "cache_params"):
        return True
    cache = _cache(model)
    if _takes(model, "past_key_values") and cache is not None:
        with contextlib.suppress(ValueError):
            cache.get_seq_length()
            return True
    warnings.warn(
        f"{type(model).__name__} has no cache that transformers keeps in generation: each token is"
        " computed from the whole of its sequence",
        stacklevel=2,
    )
    return False


def _at_once(
    model: Any,
    prompts: list[list[int]],
    num_generations: int,
    *,
    config: GenerationConfig,
    sampler: TokenSampler,
    stops: StopStrings | None,
    progress: Progress | None,
) -> list[Drawn]:
    ids, mask = _left_padded(prompts, config.pad_token_id, model.device)  # (n_prompts, P)
    completions = Completions(
        len(prompts) * num_generations,
        config.max_new_tokens,
        ends=config.eos_token_id or [],
        stops=stops,
        device=model.device,
    )
    loop = partial(
        decode,
        repeats=num_generations,
        completions=completions,
        sampler=sampler,
        progress=progress,
    )
    cache = empty_cache(model) if config.use_cache else {}
    with sampled_from(model):
        _forget(model, ids)
        model.generate(
            ids, attention_mask=mask, generation_config=config, custom_generate=loop, **cache
        )
    if progress is not None:
        progress.add(len(prompts) * num_generations)
    return completions.drawn()


def empty_cache(model: Any) -> dict[str, DynamicCache]:
    """Return what a model of plain keys and values is given as its cache; nothing for others.

    Of as many layers as are used: a configuration may count those of an encoder.
    """
    plain = _layers(model) == {DynamicLayer} and not _takes(model, "cache_params")
    return {"past_key_values": DynamicCache()} if plain else {}


def _forget(model: Any, ids: Tensor) -> None:
    """Clear a state that the model keeps in its modules, by a pass without a cache.

    RecurrentGemma begins anew with a prompt, but takes one of a single token for a continuation of
    the rows before, if they were as many.
    """
    if getattr(model, "_is_stateful", False) and ids.shape[1] == 1:
        model(input_ids=ids, use_cache=False)


def _left_padded(prompts: list[list[int]], pad: int, device: Any) -> tuple[Tensor, Tensor]:
    width = max(map(len, prompts))
    ids = [[pad] * (width - len(tokens)) + tokens for tokens in prompts]
    mask = [[0] * (width - len(tokens)) + [1] * len(tokens) for tokens in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)
