"""Rules: what the numbers of a configuration may be."""

from collections.abc import Callable
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
]


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
