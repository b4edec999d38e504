"""Completions from the policy: transformers' own generation, with the sampler's log-probabilities.

Letters: ``B`` rows of one call (prompts times generations), ``P`` longest prompt, ``T`` longest
completion.
"""

import copy
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache, GenerationConfig
from transformers.cache_utils import DynamicLayer

from gspo_rs.compiled import uncompiled
from gspo_rs.frame import before, end_tokens, framed, text_rows
from gspo_rs.rollouts import Ragged, Rollouts
from gspo_rs.sampler import Sampler
from gspo_rs.wording import completion_texts

logger = logging.getLogger(__name__)


def generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    *,
    num_generations: int,
    max_completion_length: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    top_k: int = 0,
    max_prompt_length: int | None = None,
    on_long_prompt: Literal["error", "drop"] = "error",
    micro_batch: int | None = None,
    seed: int | None = None,
) -> Rollouts:
    """Sample `num_generations` completions of every prompt.

    Parameters
    ----------
    model : transformers.PreTrainedModel or peft.PeftModel
        A causal language model. Generates in eval mode, and gets back the modes it had.
    tokenizer : transformers.PreTrainedTokenizerBase
        Needs no pad token. Without an end token all completions are `max_completion_length` long.
    prompts : sequence of str, length n_prompts
        One group of rollouts each. A conversation is to be rendered as text before; one that
        begins with the BOS gets no second.
    num_generations : int
        Completions per prompt, at least 1.
    max_completion_length : int
        Most tokens per completion, at least 1.
    temperature : float, default 1.0
        Above 0; logits are divided by it.
    top_p, top_k : float, int, optional
        Draw only from the smallest set of tokens with probability `top_p`, and from the `top_k`
        most probable. 1.0 and 0, the defaults, draw from the policy itself.
    max_prompt_length : int, optional
        In tokens. What `max_completion_length` leaves of the model's context is a limit too.
    on_long_prompt : {"error", "drop"}
        What a prompt beyond the limit gets. A drop is logged; `group_ids` tell which are left.
    micro_batch : int, optional
        Most rows generated at once, at least `num_generations`; all of them by default.
    seed : int, optional
        Model, prompts, options and seed determine the completions. Drawn from torch's global
        state by default.

    Returns
    -------
    Rollouts
        Group after group in the order of `prompts`, with the texts (see `gspo_rs.wording`),
        `prompt_tokens`, `completion_tokens` (up to a sampled end token, and with it),
        `sampler_logprobs` (at `temperature`, before `top_p`
        and `top_k` cut), `truncated`, and rewards of NaN. `group_ids` are rows of `prompts`.

    Raises
    ------
    ValueError
        If a prompt is too long or has no token, or an option is out of its range.
    FloatingPointError
        If the logits of the model are not finite.

    See Also
    --------
    gspo_rs.sampler.Sampler : draws the tokens.
    """
    _check(num_generations, max_completion_length, temperature=temperature, top_p=top_p)
    limit = _prompt_limit(model, max_prompt_length, max_completion_length)
    rows, tokens = _encode(tokenizer, prompts, limit=limit, on_long_prompt=on_long_prompt)
    at_once = len(tokens) if micro_batch is None else micro_batch // num_generations
    if at_once == 0 and tokens:
        raise ValueError(f"micro_batch = {micro_batch} holds no group of {num_generations} rows")
    generator = torch.Generator(model.device)
    generator.manual_seed(int(torch.randint(2**62, ())) if seed is None else seed)
    sampler = Sampler(generator, temperature=temperature, top_p=top_p, top_k=top_k)
    ends = end_tokens(model, tokenizer)
    config = _generation_config(tokenizer, ends, max_completion_length)
    drawn: list[_Drawn] = []
    with _generating(model) as base:
        for first in range(0, len(tokens), max(at_once, 1)):
            some = tokens[first : first + at_once]
            drawn += _complete(base, some, num_generations, config=config, sampler=sampler)
    texts = [prompts[row] for row in rows]
    return _rollouts(tokenizer, texts, tokens, drawn, rows=rows)


class _Drawn(NamedTuple):
    """One completion: its tokens (length,) int64 and their log-probabilities (length,) float32."""

    tokens: NDArray[np.int64]
    logprobs: NDArray[np.float32]
    ended: bool


def _check(
    num_generations: int, max_completion_length: int, *, temperature: float, top_p: float
) -> None:
    if num_generations < 1 or max_completion_length < 1:
        raise ValueError(
            f"num_generations = {num_generations} and max_completion_length = "
            f"{max_completion_length}: both must be at least 1"
        )
    if not temperature > 0:
        raise ValueError(f"temperature = {temperature}: must be above 0")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p = {top_p}: must be above 0 and at most 1")


def _prompt_limit(model: Any, max_prompt_length: int | None, completion: int) -> int | None:
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    limits = [max_prompt_length, None if context is None else context - completion]
    return min((limit for limit in limits if limit is not None), default=None)


def _encode(
    tokenizer: Any, prompts: Sequence[str], *, limit: int | None, on_long_prompt: str
) -> tuple[list[int], list[list[int]]]:
    """Return the rows of `prompts` that are kept, and their tokens."""
    frame = before(tokenizer) if prompts else []
    tokens = [framed(row, frame) for row in text_rows(tokenizer, prompts)]
    for row, some in enumerate(tokens):
        if not some:
            raise ValueError(f"prompt of row {row} has no token: {prompts[row]!r}")
    long = {row for row, some in enumerate(tokens) if limit is not None and len(some) > limit}
    if long:
        row = min(long)
        which = f"prompt of row {row} has {len(tokens[row])} tokens, the limit is {limit}"
        if on_long_prompt == "error":
            raise ValueError(
                f"{which}; raise max_prompt_length, shorten max_completion_length, or drop it "
                f"with on_long_prompt='drop': {prompts[row][:80]!r}"
            )
        logger.warning("dropped %d of %d prompts: %s", len(long), len(tokens), which)
    kept = [row for row in range(len(tokens)) if row not in long]
    return kept, [tokens[row] for row in kept]


def _generation_config(tokenizer: Any, ends: list[int], max_length: int) -> GenerationConfig:
    pad = tokenizer.pad_token_id
    if pad is None:  # It only fills: what it stands for is masked, or cut off.
        pad = ends[0] if ends else 0
    return GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False,  # The sampler has drawn already.
        max_new_tokens=max_length,
        eos_token_id=ends or None,
        pad_token_id=pad,
        use_cache=True,
    )


@contextmanager
def _generating(model: Any) -> Iterator[Any]:
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
        with torch.inference_mode(), uncompiled():
            yield base
    finally:
        base.generation_config = defaults
        for module in training:
            module.training = True


def _complete(
    model: Any,
    prompts: list[list[int]],
    num_generations: int,
    *,
    config: GenerationConfig,
    sampler: Sampler,
) -> list[_Drawn]:
    """Generate for all of `prompts` at once."""
    ids, mask = _left_padded(prompts, config.pad_token_id, model.device)  # (n_prompts, P)
    cache = _prefill(model, ids, mask, config=config, repeats=num_generations)
    sequences = model.generate(
        ids.repeat_interleave(num_generations, dim=0),  # (B, P)
        attention_mask=mask.repeat_interleave(num_generations, dim=0),
        past_key_values=cache,
        generation_config=config,
        logits_processor=[sampler],
    )
    tokens = sequences[:, ids.shape[1] :]  # (B, T)
    ended = torch.isin(tokens, torch.tensor(config.eos_token_id or [], device=tokens.device))
    # Up to the first end token and with it: positions before which no end token stands.
    lengths = ((ended.cumsum(dim=1) - ended.long()) == 0).sum(dim=1)  # (B,)
    return _cut(tokens, sampler.logprobs(), lengths, ended.any(dim=1))


def _left_padded(prompts: list[list[int]], pad: int, device: Any) -> tuple[Tensor, Tensor]:
    width = max(map(len, prompts))
    ids = [[pad] * (width - len(tokens)) + tokens for tokens in prompts]
    mask = [[0] * (width - len(tokens)) + [1] * len(tokens) for tokens in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def _prefill(
    model: Any, ids: Tensor, mask: Tensor, *, config: GenerationConfig, repeats: int
) -> DynamicCache | None:
    """Read each prompt once for its whole group: a cache of all but its last token, repeated.

    None where the model keeps more than growing keys and values, which can't be cropped: there
    every row reads its prompt by itself.
    """
    cache = DynamicCache(config=model.config)
    if repeats == 1 or ids.shape[1] == 1 or any(type(x) is not DynamicLayer for x in cache.layers):
        return None
    one = copy.copy(config)
    one.max_new_tokens = 1
    model.generate(ids, attention_mask=mask, past_key_values=cache, generation_config=one)
    cache.crop(-1)
    cache.batch_repeat_interleave(repeats)
    return cache


def _cut(tokens: Tensor, logprobs: Tensor, lengths: Tensor, ended: Tensor) -> list[_Drawn]:
    arrays = [part.cpu().numpy() for part in (tokens, logprobs, lengths, ended)]
    drawn = []
    for row_tokens, row_logprobs, length, row_ended in zip(*arrays, strict=True):
        if not np.isfinite(row_logprobs[:length]).all():
            raise FloatingPointError("the model's logits are not finite: its weights are broken")
        drawn.append(_Drawn(row_tokens[:length], row_logprobs[:length], bool(row_ended)))
    return drawn


def _rollouts(
    tokenizer: Any,
    prompts: list[str],
    tokens: list[list[int]],
    drawn: list[_Drawn],
    *,
    rows: list[int],
) -> Rollouts:
    repeats = len(drawn) // len(prompts) if prompts else 0
    completions = [row.tokens for row in drawn]
    repeated = [prompt for prompt in prompts for _ in range(repeats)]
    starts = [row for row in text_rows(tokenizer, prompts) for _ in range(repeats)]
    written = [row.tokens[: len(row.tokens) - row.ended].tolist() for row in drawn]
    return Rollouts(
        offsets=np.arange(len(prompts) + 1, dtype=np.int64) * repeats,
        prompts=repeated,
        completions=completion_texts(tokenizer, repeated, starts, written),
        reward=np.full(len(drawn), np.nan),
        prompt_tokens=Ragged.from_rows([t for t in tokens for _ in range(repeats)], np.int64),
        completion_tokens=Ragged.from_rows(completions, np.int64),
        sampler_logprobs=Ragged.from_rows([row.logprobs for row in drawn], np.float32),
        truncated=np.array([not row.ended for row in drawn], dtype=np.bool_),
        group_ids=rows,
    )
