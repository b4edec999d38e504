"""AdamW over the trained parameters, and the learning rate schedule."""

import math
from importlib import import_module
from typing import Any

import torch

from gspo_rs.train.config.config import Config
from gspo_rs.train.model.policy import Policy, PolicyError
from gspo_rs.train.step.adamw_8bit import AdamW8bit


def learning_rate(config: Config, step: int, total: int) -> float:
    """Return the learning rate of a step.

    Parameters
    ----------
    config : Config
        Tells peak, warm-up and course.
    step : int
        From 1.
    total : int
        Steps of the run, where the linear and the cosine course end.

    Returns
    -------
    float
        A function of the step alone, so that a resumed run needs no scheduler's state.

    Examples
    --------
    >>> config = Config(model="m", learning_rate=1.0, warmup_steps=2, lr_scheduler_type="linear")
    >>> [learning_rate(config, step, total=6) for step in (1, 2, 3, 4, 6)]
    [0.5, 1.0, 1.0, 0.75, 0.25]
    """
    if step <= config.warmup_steps:
        return config.learning_rate * step / config.warmup_steps
    done = (step - 1 - config.warmup_steps) / max(total - config.warmup_steps, 1)
    if config.lr_scheduler_type == "linear":
        return config.learning_rate * (1 - done)
    if config.lr_scheduler_type == "cosine":
        return config.learning_rate * (1 + math.cos(math.pi * done)) / 2
    return config.learning_rate


def make_optimizer(policy: Policy, config: Config) -> torch.optim.Optimizer:
    """Create the AdamW of a run over the trained parameters.

    Parameters
    ----------
    policy : Policy
        Whose parameters are trained.
    config : Config
        Tells the hyperparameters.

    Returns
    -------
    torch.optim.Optimizer
        Without state.

    Raises
    ------
    PolicyError
        If it needs a GPU or a package that is not there.
    """
    how: dict[str, Any] = {
        "lr": config.learning_rate,
        "betas": (config.adam_beta1, config.adam_beta2),
        "eps": config.adam_epsilon,
        "weight_decay": config.weight_decay,
    }
    parameters = list(policy.trainable().values())
    if config.optimizer == "paged_adamw_8bit":
        found: torch.optim.Optimizer = _paged(policy.device)(parameters, **how)
        return found
    if config.optimizer == "adamw_8bit":
        return AdamW8bit(parameters, **how)
    return torch.optim.AdamW(parameters, **how, fused=True)


def _paged(device: torch.device) -> Any:
    """Return the optimizer of bitsandbytes whose state is in memory that GPU and CPU share."""
    if device.type != "cuda":
        raise PolicyError(
            "optimizer = 'paged_adamw_8bit': its state moves between a GPU and the CPU, and the run"
            f" is on device {device}; use 'adamw_8bit'"
        )
    try:
        return import_module("bitsandbytes").optim.PagedAdamW8bit
    except ImportError as error:
        raise PolicyError(
            "optimizer = 'paged_adamw_8bit': needs bitsandbytes, which is not installed; install"
            " gspo_rs[bitsandbytes], or use 'adamw_8bit'"
        ) from error
