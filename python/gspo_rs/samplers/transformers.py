"""Sample completions with transformers' generation, with the sampler's log-probabilities.

Letters: ``B`` rows of one call (prompts times generations), ``P`` longest prompt, ``T`` longest
completion.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Literal

import torch
from transformers import GenerationConfig

from gspo_rs.rollouts.rollouts import Rollouts
from gspo_rs.samplers.completions import Drawn
from gspo_rs.samplers.encoded import encoded, numbered
from gspo_rs.samplers.generation import complete, context_of, generating
from gspo_rs.samplers.progress import Progress
from gspo_rs.samplers.special_tokens import end_tokens
from gspo_rs.samplers.stop_strings import StopStrings, as_strings
from gspo_rs.samplers.token_sampler import TokenSampler


def generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str] | Sequence[Sequence[int]],
    *,
    num_generations: int,
    max_completion_length: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    top_k: int = 0,
    stop: str | Sequence[str] | None = None,
    max_prompt_length: int | None = None,
    on_long_prompt: Literal["error", "drop"] = "error",
    add_special_tokens: bool = True,
    generation_batch: int | None = None,
    prompt_numbers: Sequence[int] | None = None,
    seed: int | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Rollouts:
    """Sample `num_generations` completions of every prompt.

    Parameters
    ----------
    model : transformers.PreTrainedModel or peft.PeftModel
        A causal language model. Generates in eval mode, and gets back the modes it had.
    tokenizer : transformers.PreTrainedTokenizerBase
        Needs no pad token. Without an end token all completions are `max_completion_length` long.
    prompts : sequence of str or of sequences of int, length n_prompts
        One group of rollouts each. A conversation is to be rendered as text before, and read with
        ``add_special_tokens=False``. Tokens are read as they are.
    num_generations : int
        Completions per prompt, at least 1.
    max_completion_length : int
        Most tokens per completion, at least 1.
    temperature : float, default 1.0
        Above 0; logits are divided by it.
    top_p, top_k : float, int, optional
        Draw only from the smallest set of tokens with probability `top_p`, and from the `top_k`
        most probable. 1.0 and 0, the defaults, draw from the policy itself, but for tokens that the
        tokenizer does not have: a head may be padded beyond them.
    stop : str or sequence of str, optional
        Texts at which a completion ends, with the token that completes one (see Notes).
    max_prompt_length : int, optional
        In tokens. What `max_completion_length` leaves of the model's context is a limit too.
    on_long_prompt : {"error", "drop"}
        What a prompt beyond the limit gets. A drop is logged; `group_ids` tell which are left.
    add_special_tokens : bool, default True
        Put before texts what the tokenizer puts there; one that begins with the BOS gets no second.
    generation_batch : int, optional
        Most rows sampled at once, less memory with fewer; all of them by default. It does not
        change what is sampled, but for the rounding of logits (see Notes).
    prompt_numbers : sequence of int, length n_prompts, optional
        What stands for each prompt in the draws: none twice, none negative. By default its row.
    seed : int, optional
        Model, prompts, their numbers, options and seed determine the completions. Drawn from
        torch's global state by default.
    progress : callable, optional
        Called now and then with the number of completions that are done, and of all.

    Returns
    -------
    Rollouts
        Group after group in the order of `prompts`, with the texts (see
        `gspo_rs.samplers.detokenize`),
        `prompt_tokens`, `completion_tokens` (up to a sampled end token or a stop string, and with
        it), `sampler_logprobs` (at `temperature`, over the whole vocabulary, before anything is
        cut), `truncated`, and rewards of NaN. `group_ids` are rows of `prompts`.

    Raises
    ------
    ValueError
        If a prompt is too long or has no token, two have one number, or an option is out of its
        range.
    FloatingPointError
        If the logits of the model are not finite.
    GenerationError
        If transformers cannot sample from the model.

    Notes
    -----
    A token is decided by the logits of its own sequence and by one random number, a function of
    `seed`, the number of its prompt, the number of the completion, and its position
    (`gspo_rs.samplers.uniforms`). So prompts may come in any order, together or apart. What rows
    are beside it changes the last digits of a sequence's logits, and a token only where its random
    number falls between the two values of a border: in float32 about one in a hundred thousand.

    A completion ends with the token that completes a stop string in its text: that token is
    trained on as it was sampled, and the text is all that its tokens write, so the string is in it
    and so may be a few characters after it. vLLM keeps the same tokens and cuts the text before the
    string by default (``include_stop_str_in_output``). It is not truncated. A stop string that is
    one token of the tokenizer's own, such as ``<|im_end|>``, ends a completion as an end token
    does, which is no part of the text.

    See Also
    --------
    gspo_rs.samplers.token_sampler.TokenSampler : draws the tokens.
    """
    _check(
        num_generations,
        max_completion_length,
        generation_batch,
        temperature=temperature,
        top_p=top_p,
    )
    strings = as_strings(stop)
    limit = _prompt_limit(model, max_prompt_length, max_completion_length)
    asked = encoded(tokenizer, prompts, limit, on_long_prompt, special=add_special_tokens)
    given = numbered(prompt_numbers, len(prompts))
    numbers = [given[row] for row in asked.rows]
    seed = int(torch.randint(2**62, ())) if seed is None else seed
    cuts: dict[str, Any] = {"top_p": top_p, "top_k": top_k, "known": _known(model, tokenizer)}
    ends = end_tokens(model, tokenizer, strings)
    starts = dict(zip(numbers, asked.alone, strict=True))
    parts: dict[str, Any] = {
        "config": _generation_config(tokenizer, ends, max_completion_length),
        "sampler": TokenSampler(seed, temperature=temperature, **cuts),
        "stops": StopStrings(tokenizer, strings, starts) if strings else None,
        "progress": _watching(progress, len(asked.tokens) * num_generations),
    }
    drawn: list[Drawn] = []
    pairs = list(zip(numbers, asked.tokens, strict=True))
    with generating(model) as base:
        for some, generations in _cuts(pairs, num_generations, generation_batch):
            drawn += complete(base, some, generations, **parts)
    n = num_generations
    return asked.rollouts(tokenizer, [drawn[at : at + n] for at in range(0, len(drawn), n)])


def fitting(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    *,
    max_completion_length: int,
    max_prompt_length: int | None = None,
    on_long_prompt: Literal["error", "drop"] = "error",
    add_special_tokens: bool = True,
) -> list[int]:
    """Return the rows of the prompts that `generate` would sample for.

    Parameters
    ----------
    model, tokenizer, prompts, max_completion_length, max_prompt_length, on_long_prompt, \
add_special_tokens
        As for `generate`.

    Returns
    -------
    list of int
        All, or with "drop" those that are not too long.

    Raises
    ------
    ValueError
        If a prompt is too long or has no token.
    """
    limit = _prompt_limit(model, max_prompt_length, max_completion_length)
    return encoded(tokenizer, prompts, limit, on_long_prompt, special=add_special_tokens).rows


def _known(model: Any, tokenizer: Any) -> Collection[int] | None:
    """Return the tokens of the tokenizer, where the model has more; None where it has no others."""
    if len(tokenizer) >= model.get_input_embeddings().num_embeddings:
        return None
    return frozenset(tokenizer.get_vocab().values())


def _watching(progress: Callable[[int, int], object] | None, total: int) -> Progress | None:
    if progress is None:
        return None
    return Progress(lambda done: progress(done, total))


def _cuts(
    pairs: list[tuple[int, list[int]]], num_generations: int, most: int | None
) -> Iterator[tuple[dict[int, list[int]], range]]:
    """Cut into what is sampled at once: some whole groups, or a part of one that is larger."""
    most = most or max(len(pairs), 1) * num_generations
    together, part = max(most // num_generations, 1), min(most, num_generations)
    for first in range(0, len(pairs), together):
        some = dict(pairs[first : first + together])
        for start in range(0, num_generations, part):
            yield some, range(start, min(start + part, num_generations))


def _check(
    num_generations: int,
    max_completion_length: int,
    generation_batch: int | None,
    *,
    temperature: float,
    top_p: float,
) -> None:
    if num_generations < 1 or max_completion_length < 1:
        raise ValueError(
            f"num_generations = {num_generations} and max_completion_length = "
            f"{max_completion_length}: both must be at least 1"
        )
    if generation_batch is not None and generation_batch < 1:
        raise ValueError(f"generation_batch = {generation_batch}: must be at least 1")
    if not temperature > 0:
        raise ValueError(f"temperature = {temperature}: must be above 0")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p = {top_p}: must be above 0 and at most 1")


def _prompt_limit(model: Any, max_prompt_length: int | None, completion: int) -> int | None:
    context = context_of(model)
    limits = [max_prompt_length, None if context is None else context - completion]
    return min((limit for limit in limits if limit is not None), default=None)


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
