"""AdamW over the trained parameters, and the learning rate schedule."""

import math

import torch

from gspo_rs.train.config.config import Config
from gspo_rs.train.model.policy import Policy


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


def make_optimizer(policy: Policy, config: Config) -> torch.optim.AdamW:
    """Create a fused AdamW over the trained parameters.

    Parameters
    ----------
    policy : Policy
        Whose parameters are trained.
    config : Config
        Tells the hyperparameters.

    Returns
    -------
    torch.optim.AdamW
        Without state.
    """
    return torch.optim.AdamW(
        policy.trainable().values(),
        lr=config.learning_rate,
        betas=(config.adam_beta1, config.adam_beta2),
        eps=config.adam_epsilon,
        weight_decay=config.weight_decay,
        fused=True,
    )
