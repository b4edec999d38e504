"""Rules: what a configuration may say, number by number and taken together."""

import math
from collections.abc import Callable, Sequence
from typing import Any

_RULES: list[tuple[str, Callable[[Any], bool], str]] = [
    ("num_generations", lambda v: v >= 2, "at least 2: a group of one has no signal"),
    (
        "prompts_per_step steps_per_generation num_iterations num_train_epochs max_steps"
        " max_completion_length max_prompt_length micro_batch_tokens logging_steps"
        " save_total_limit",
        lambda v: v >= 1,
        "at least 1",
    ),
    (
        "temperature adam_epsilon tau_pos tau_neg w_max dual_clip delta opsm",
        lambda v: 0 < v < float("inf"),
        "above 0",
    ),
    ("top_p q", lambda v: 0 < v <= 1, "in (0, 1]"),
    ("adam_beta1 adam_beta2 clip_low", lambda v: 0 <= v < 1, "in [0, 1)"),
    ("label_smoothing", lambda v: 0 <= v < 0.5, "in [0, 0.5)"),
    (
        "top_k beta clip_high learning_rate weight_decay max_grad_norm warmup_steps lora_r"
        " save_steps eval_size eval_steps seed clip w_min k_pos lam_pos k_neg lam_neg delta_low"
        " delta_high correction_low correction_high",
        lambda v: 0 <= v < float("inf"),
        "finite and not negative",
    ),
    ("reward_weights", lambda v: all(map(math.isfinite, v)), "finite"),
]
# Fields that name a place.
_NAMES = ("model", "prompts", "eval_prompts", "rollouts", "output_dir", "spill_directory")


def broken(config: object) -> str | None:
    """Return the first field of a configuration that breaks its rule.

    Parameters
    ----------
    config : object
        Whose attributes are the fields; None obeys every rule.

    Returns
    -------
    str or None
        The field, its value and the rule.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> fields = {name: None for names, _, _ in _RULES for name in names.split()}
    >>> broken(SimpleNamespace(**{**fields, "top_p": 1.5}))
    'top_p = 1.5: must be in (0, 1]'
    """
    for names, holds, rule in _RULES:
        for name in names.split():
            value = getattr(config, name)
            if value is not None and not holds(value):
                return f"{name} = {value!r}: must be {rule}"
    return None


def contradicted(config: Any) -> str | None:
    """Return what of a configuration does not go together.

    Parameters
    ----------
    config : Config
        Not yet resolved.

    Returns
    -------
    str or None
        The first such fields and the remedy.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> none = dict.fromkeys([*_NAMES, "prompts", "rollouts"])
    >>> contradicted(SimpleNamespace(**none))
    'give either `prompts` (online) or `rollouts` (offline)'
    """
    if fault := _unnamed(config):
        return fault
    if (config.prompts is None) == (config.rollouts is None):
        return "give either `prompts` (online) or `rollouts` (offline)"
    if config.online and config.old_logprobs_column is not None:
        return "old_logprobs_column is a column of `rollouts`; see old_logprobs"
    if config.online and config.truncated_column is not None:
        return "truncated_column is a column of `rollouts`; online the sampler knows it"
    if not config.online and config.reward is not None:
        return "reward is a function for online runs; offline see reward_column"
    if config.correction != "none" and (not config.online or config.old_logprobs == "sampler"):
        return (
            f"correction = {config.correction!r}: compares the sampler with a pass of the training"
            " engine; it needs `prompts`, and old_logprobs = 'recompute' or 'auto'"
        )
    if (weights := config.advantage_options.get("weights")) is not None:
        return f"advantage_options weights = {weights!r}: rewards have theirs in reward_weights"
    if config.online:
        return None  # a function given in place of a name is not known here
    names = config.reward_column
    return unweighable(
        "reward_column", [names] if isinstance(names, str) else names, config.reward_weights
    )


def _unnamed(config: Any) -> str | None:
    """Return which field holds a thing where its name is asked for."""
    for name in _NAMES:
        value = getattr(config, name)
        for item in value if isinstance(value, tuple | list) else [value]:
            if item is not None and not isinstance(item, str):
                kind = f"{type(item).__module__}.{type(item).__qualname__}"
                return (
                    f"{name} is a {kind}; a run is taken up again by names alone: give the path of"
                    " a file or folder as text, after saving what is in memory there"
                )
    return None


def unweighable(key: str, names: Sequence[str], weights: Sequence[float] | None) -> str | None:
    """Return why rewards cannot be told apart or weighed.

    Parameters
    ----------
    key : str
        The field that names them.
    names : sequence of str
        Of the functions or columns.
    weights : sequence of float or None
        Those of `reward_weights`.

    Returns
    -------
    str or None
        What is wrong and the remedy.

    Examples
    --------
    >>> unweighable("reward", ["right", "short"], [1.0])
    'reward_weights = [1.0]: give 2, one for each of right, short'
    """
    if not names:
        return f"{key} is empty; name one reward at least"
    if twice := [name for place, name in enumerate(names) if name in names[:place]]:
        return f"{key} has two named {twice[0]}; rewards go by their names, so rename one"
    if weights is not None and len(weights) != len(names):
        told = f"give {len(names)}, one for each of {', '.join(names)}"
        return f"reward_weights = {weights!r}: {told}"
    return None
