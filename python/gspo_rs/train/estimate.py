"""What a run is expected to take of the device, in one line before it begins."""

from __future__ import annotations

import numpy as np
import torch

from gspo_rs.data.prompt_table import Prompts
from gspo_rs.samplers.special_tokens import text_rows
from gspo_rs.train.config.config import Config
from gspo_rs.train.memory import Memory, cache_bytes, expected_pass, measured, samples_here
from gspo_rs.train.model.policy import Policy
from gspo_rs.train.plan_text import excess, size
from gspo_rs.train.rollout.chat import rendered

__all__ = ["columns", "line", "rows"]

SAMPLE = 32
"""Prompts whose longest counts for all."""


def line(policy: Policy, config: Config, source: object, *, reference: bool) -> str:
    """Return how much memory a run takes, what for, and whether there is as much.

    Parameters
    ----------
    policy : Policy
        Loaded, before the first step. It reads a few tokens.
    config : Config
        Of the run.
    source : Prompts or GroupIndex
        What is learned from.
    reference : bool
        Whether a second model is there, and counted in what is free.

    Returns
    -------
    str
        As if all completions had their full length.
    """
    largest = expected_pass(policy, config, _prompt_length(policy, config, source))
    at_once, length = config.generation_batch or rows(config), columns(policy, config, source)
    here = samples_here(config)
    memory = measured(
        policy,
        config,
        reference=reference,
        cache=cache_bytes(policy, min(rows(config), at_once), length) if here else 0,
        largest=largest,
    )
    return f"memory: about {size(memory.total)}{_limit(policy, memory)} ({_parts(memory)})"


def rows(config: Config) -> int:
    """Return the completions of a batch of rollouts."""
    return config.prompts_per_step * config.steps_per_generation * config.num_generations


def columns(policy: Policy, config: Config, source: object) -> int:
    """Return the tokens of the longest sequence, its completion of full length."""
    prompt = _prompt_length(policy, config, source)
    return min(prompt + config.max_completion_length, policy.context or np.iinfo(np.int64).max)


def _parts(memory: Memory) -> str:
    parts = {
        "weights": memory.weights,
        "reference": memory.reference,
        "gradients": memory.gradients,
        "optimizer": memory.optimizer,
        "a micro-batch": memory.activations + memory.logits,
        "sampling": memory.cache + memory.copy,
        "weights to sample ahead": memory.ahead,
    }
    return ", ".join(f"{name} {size(value)}" for name, value in parts.items() if value)


def _limit(policy: Policy, memory: Memory) -> str:
    """Return what a GPU has for the run: what is free, and what is loaded already."""
    if policy.device.type != "cuda":
        return ""
    available = torch.cuda.mem_get_info(policy.device)[0]
    available += torch.cuda.memory_allocated(policy.device)
    return f" of {size(available)} that are free{excess(memory, available)}"


def _prompt_length(policy: Policy, config: Config, source: object) -> int:
    """Return the tokens of the longest of some prompts, or the most there may be."""
    room = (policy.context or np.iinfo(np.int64).max) - config.max_completion_length
    most = max(min(config.max_prompt_length or room, room), 1)
    if not isinstance(source, Prompts):
        return min(most, config.max_completion_length)
    some = source.texts[:: max(len(source) // SAMPLE, 1)]
    texts = rendered(policy.tokenizer, some, config.chat_template_kwargs)
    lengths = map(len, text_rows(policy.tokenizer, texts))
    return max(min(max(lengths, default=1), most), 1)
