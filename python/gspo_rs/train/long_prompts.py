"""Prompts that leave a completion no room: left out once, before anything is sampled."""

from __future__ import annotations

import dataclasses

from gspo_rs.data.prompt_table import Prompts
from gspo_rs.samplers.transformers import fitting
from gspo_rs.train.config.config import Config, ConfigError
from gspo_rs.train.dataset import Dataset
from gspo_rs.train.model.policy import Policy
from gspo_rs.train.rollout.chat import is_chat, rendered

__all__ = ["without_long"]


def without_long(data: Dataset, policy: Policy, config: Config) -> Dataset:
    """Leave out the prompts that are too long, or refuse them, as `on_long` says.

    Parameters
    ----------
    data : Dataset
        As it was opened.
    policy : Policy
        Tells tokens and context.
    config : Config
        Tells the limits.

    Returns
    -------
    Dataset
        Offline as it is: rollouts are tokenised as they are read. With a rollout function too,
        which makes prompts of its own. Without prompts of their own,
        comparisons take the first of those that are left.

    Raises
    ------
    ConfigError
        If no prompt is left, or there are variables of a chat template and prompts that are texts.
    ValueError
        If one is too long or has no token, or is no conversation to answer; names its row.
    """
    if not isinstance(data.source, Prompts) or config.rollout is not None:
        return data
    if config.chat_template_kwargs and not is_chat(data.source.texts):
        raise ConfigError(
            f"chat_template_kwargs = {config.chat_template_kwargs!r}: the prompts are texts, which"
            " no template renders; leave it out, or give chat messages"
        )
    kept = data.source.select(_rows(data.source, policy, config, "prompts"))
    if not len(kept):
        raise ConfigError(
            f"every prompt is too long, {len(data.source)} in all; raise max_prompt_length where"
            " the model allows, or lower max_completion_length"
        )
    exam = data.exam
    if exam is not None and config.eval_prompts is None:
        exam = kept.select(range(min(config.eval_size, len(kept))))
    elif exam is not None:
        exam = exam.select(_rows(exam, policy, config, "eval_prompts"))
    return dataclasses.replace(
        data,
        source=kept,
        exam=exam if exam is not None and len(exam) else None,
        dropped=len(data.source) - len(kept),
    )


def _rows(prompts: Prompts, policy: Policy, config: Config, name: str) -> list[int]:
    place, options = f"row {{}} of {name}".format, config.chat_template_kwargs
    return fitting(
        policy.model,
        policy.tokenizer,
        rendered(policy.tokenizer, prompts.texts, options, place=place),
        max_completion_length=config.max_completion_length,
        max_prompt_length=config.max_prompt_length,
        on_long_prompt=config.on_long,
        add_special_tokens=not is_chat(prompts.texts),
    )
