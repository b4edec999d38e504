"""The lines of text that a rehearsal prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gspo_rs.train.inputs import MEMORY

if TYPE_CHECKING:
    from gspo_rs.train.memory import Memory
    from gspo_rs.train.rehearsal import Plan

__all__ = ["excess", "lines", "size"]

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def lines(plan: Plan) -> list[str]:
    """Return what a plan says, one line for each of its parts."""
    config, memory = plan.config, plan.memory
    kind = "prompts" if config.online else "groups"
    source = config.prompts if config.online else config.rollouts
    named = ", ".join([source] if isinstance(source, str) else source or ())
    named = named.removeprefix(MEMORY)
    trained = "all trained" if plan.trained == plan.parameters else f"{plan.trained:,} trained"
    found = [
        ("data", f"{plan.groups:,} {kind} in {named}"),
        ("model", f"{plan.parameters:,} parameters, {trained}, on {plan.device}"),
        ("run", _run(plan)),
        ("batch", _batch(plan)),
        *([("left out", _dropped(plan))] if any(plan.dropped.values()) else []),
        ("memory", f"about {size(memory.total)}{_available(plan)}"),
    ]
    parts = {
        "weights": memory.weights,
        "reference model": memory.reference,
        "gradients": memory.gradients,
        "optimizer": memory.optimizer,
        "keys and values while sampling": memory.cache,
        "weights in half the bytes while sampling": memory.copy,
        "the copy of weights that samples ahead": memory.ahead,
        f"activations of a micro-batch of {plan.pass_tokens:,} tokens": memory.activations,
        "logits, and the sums of the head's gradient": memory.logits,
        "the step of the largest weight": memory.step,
    }
    found += [("", f"{size(value):>10}  {name}") for name, value in parts.items() if value]
    found.append(("output", f"{config.output_dir}; nothing was written"))
    return [f"{title:10}{text}" for title, text in found]


def size(n_bytes: int) -> str:
    """Return a number of bytes for a person.

    Examples
    --------
    >>> size(512), size(1536), size(3 << 30)
    ('512 B', '1.5 KiB', '3.0 GiB')
    """
    value, unit = float(n_bytes), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.1f} {_UNITS[unit]}" if unit else f"{n_bytes} B"


def _run(plan: Plan) -> str:
    config = plan.config
    left = f"{plan.steps - plan.done:,} of {plan.steps:,}" if plan.done else f"{plan.steps:,}"
    groups = "prompts" if config.online else "groups"
    each = f" x {config.num_generations} completions" if config.online else ""
    algorithm = f"{config.algorithm}: advantage {config.advantage}, loss {config.loss}"
    return f"{left} steps of {config.prompts_per_step} {groups}{each}; {algorithm}"


def _batch(plan: Plan) -> str:
    config, rewards = plan.config, plan.rewards[~np.isnan(plan.rewards)]
    how = "sampled" if config.online else "read"
    said = [f"{len(plan.rewards):,} completions {how} in {plan.seconds:.1f} s"]
    if len(rewards):
        spread = f"{rewards.mean():.3g} ± {rewards.std():.3g}"
        said.append(f"reward {spread} ({rewards.min():.3g} to {rewards.max():.3g})")
    said.append(f"{plan.informative} of {plan.sampled} groups with signal")
    if len(plan.lengths):
        most = f"of at most {config.max_completion_length}"
        said.append(f"{plan.lengths.mean():.0f} tokens on average {most}")
    return "; ".join(said)


def _dropped(plan: Plan) -> str:
    named = {
        "dropped_prompts": "prompts that are too long",
        "dropped_groups": "groups without signal",
        "dropped_unscorable": "completions without a reward",
        "dropped_long": "completions that are too long",
        "dropped_empty": "empty completions",
        "dropped_truncated": "truncated completions",
    }
    return ", ".join(f"{n:,} {named[key]}" for key, n in plan.dropped.items() if n)


def _available(plan: Plan) -> str:
    if plan.available is None:
        return ""
    return f" of {size(plan.available)} that are free{excess(plan.memory, plan.available)}"


def excess(memory: Memory, available: int) -> str:
    """Return what to say where a run takes more memory than there is; nothing elsewhere."""
    least = " - TOO MUCH; lower micro_batch_tokens or generation_batch"
    return "" if memory.total <= available else least
