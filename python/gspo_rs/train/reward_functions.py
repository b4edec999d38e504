"""The reward functions of a run, by name."""

from gspo_rs.rewards.functions import RewardFunction, named
from gspo_rs.train.config.config import Config, ConfigError, unweighable
from gspo_rs.train.inputs import Inputs

__all__ = ["reward_functions"]


def reward_functions(config: Config, inputs: Inputs) -> dict[str, RewardFunction]:
    """Return the reward functions: those given, or those that the configuration names.

    There may be none where a rollout function gives the rewards itself.
    """
    functions = config.reward if inputs.reward is None else inputs.reward
    if functions is None:
        if config.rollout is not None:
            return {}
        raise ConfigError("reward is missing: name the function that scores, as file.py:function")
    pairs = named(functions)
    if fault := unweighable("reward", [name for name, _ in pairs], config.reward_weights):
        raise ConfigError(fault)
    return dict(pairs)
