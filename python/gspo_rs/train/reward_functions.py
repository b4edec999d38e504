"""The reward functions of a run, by name, and where they are called."""

from collections.abc import Mapping

from gspo_rs.rewards.functions import RewardFunction, name_of, named
from gspo_rs.rewards.pooled import PooledFunction, pooled_functions
from gspo_rs.samplers.address import parsed
from gspo_rs.train.config.config import Config, ConfigError, unweighable
from gspo_rs.train.inputs import Inputs

__all__ = ["close_rewards", "reward_functions"]

_SECONDS = 10.0  # for a call in a worker


def reward_functions(config: Config, inputs: Inputs) -> dict[str, RewardFunction]:
    """Return the reward functions: those given, or those that the configuration names.

    There may be none where a rollout function, or a sampler of the user's, gives the rewards. With
    `reward_workers` they call a pool of processes, which `close_rewards` ends.
    """
    functions = config.reward if inputs.reward is None else inputs.reward
    if functions is None:
        if config.reward_workers:
            raise ConfigError("reward_workers call reward functions, and reward is missing")
        if config.rollout is not None or parsed(config.sampler).kind == "factory":
            return {}
        raise ConfigError("reward is missing: name the function that scores, as file.py:function")
    if config.reward_workers:
        return _pooled(config, functions)
    pairs = named(functions)
    if fault := unweighable("reward", [name for name, _ in pairs], config.reward_weights):
        raise ConfigError(fault)
    return dict(pairs)


def _pooled(config: Config, functions: object) -> dict[str, RewardFunction]:
    """Return functions that workers load by their names and call."""
    specs: list[str] = []
    for one in functions if isinstance(functions, list | tuple) else [functions]:
        if isinstance(one, str):
            specs.append(one)
        else:
            kind = name_of(one) if callable(one) else type(one).__name__
            raise ConfigError(
                f"reward {kind} is a function in memory, which reward_workers cannot load: name it"
                " as file.py:function or module:function, or set reward_workers = 0"
            )
    names = [one.rpartition(":")[2] for one in specs]
    if fault := unweighable("reward", names, config.reward_weights):
        raise ConfigError(fault)
    found = pooled_functions(
        dict(zip(names, specs, strict=True)),
        config.reward_workers,
        timeout=config.reward_timeout or _SECONDS,
        on_failure=config.on_reward_failure,
        sandbox=config.reward_sandbox,
    )
    return {**found}


def close_rewards(functions: Mapping[str, RewardFunction]) -> None:
    """End the workers of reward functions, where there are any."""
    for function in functions.values():
        if isinstance(function, PooledFunction):
            function.workers.close()
