"""The sampler of a run: the policy itself, a server, or one of the user's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gspo_rs.data.prompt_table import Prompts
from gspo_rs.rewards.functions import load, name_of
from gspo_rs.rollouts.rollouts import Rollouts
from gspo_rs.samplers import Policy, Sampler, SamplerError
from gspo_rs.samplers.address import parsed
from gspo_rs.samplers.continuous import Continuous
from gspo_rs.samplers.vllm import Vllm
from gspo_rs.train.config.config import Config, ConfigError
from gspo_rs.train.inputs import Inputs
from gspo_rs.train.progress import Report, silent
from gspo_rs.train.rollout.engine import Engine, Transformers
from gspo_rs.train.rollout.function import RolloutFunction, checked, play, rollout_function
from gspo_rs.train.rollout.policy_sampler import PolicySampler

__all__ = [
    "EngineSampler",
    "OwnSampler",
    "counted",
    "refuse_cuts",
    "reporting",
    "sampler_of",
    "sampling_of",
]

_METHODS = ("sample", "refresh", "close")


@dataclass
class EngineSampler:
    """Samples with the settings of a run: one completion at a time, or by a rollout function.

    Attributes
    ----------
    config : Config
        Of the run.
    engine : Engine
        Reads the policy, or asks a server that has its weights.
    function : callable, optional
        Samples in place of one completion at a time.
    report : Report
        Gets how many completions of a call are done.
    policy : Policy, optional
        As it was last refreshed.
    """

    config: Config
    engine: Engine
    function: RolloutFunction | None = None
    report: Report = silent
    policy: Policy | None = None

    @property
    def concurrent(self) -> bool:
        """Whether it may be refreshed while it samples."""
        return bool(getattr(self.engine, "concurrent", False))

    def sample(self, prompts: Prompts, *, places: NDArray[np.int64], seed: int) -> Rollouts:
        """Draw the completions of some prompts; see `gspo_rs.samplers.Sampler`."""
        assert self.policy is not None
        numbers = places.tolist()
        one = PolicySampler(
            self.policy, self.config, seed, self.report, numbers, engine=self.engine
        )
        if self.function is None or not len(prompts):
            return one.generate(prompts.texts)
        return play(self.function, one, prompts)

    def refresh(self, policy: Policy, version: int) -> None:
        """Take the weights that the policy has now."""
        self.engine.refresh(policy, version)
        self.policy = policy

    def close(self) -> None:
        """Let go of what the engine holds."""
        self.engine.close()

    def take_metrics(self) -> dict[str, list[float]]:
        """Return what the engine has counted since it was last asked."""
        return counted(self.engine)


@dataclass
class OwnSampler:
    """A sampler of the user's, what it returns checked.

    Attributes
    ----------
    sampler : Sampler
        The user's.
    name : str
        For errors.
    """

    sampler: Sampler
    name: str

    @property
    def concurrent(self) -> bool:
        """Whether it may be refreshed while it samples."""
        return bool(getattr(self.sampler, "concurrent", False))

    def sample(self, prompts: Prompts, *, places: NDArray[np.int64], seed: int) -> Rollouts:
        """Draw the completions of some prompts.

        Raises
        ------
        RolloutError
            If what is returned are no rollouts of these prompts; names the field and the row.
        """
        found = self.sampler.sample(prompts, places=places, seed=seed)
        return checked(found, len(prompts), self.name)

    def refresh(self, policy: Policy, version: int) -> None:
        """Take the weights that the policy has now."""
        self.sampler.refresh(policy, version)

    def close(self) -> None:
        """Let go of what it holds."""
        self.sampler.close()

    def take_metrics(self) -> dict[str, list[float]]:
        """Return what it has counted since it was last asked."""
        return counted(self.sampler)


def sampler_of(config: Config, inputs: Inputs) -> Sampler | None:
    """Return the sampler of a run, the one given or the one that the configuration names.

    Returns
    -------
    Sampler or None
        None offline. To be refreshed before it is asked, and closed in the end.

    Raises
    ------
    ConfigError
        If a rollout function is to sample with a sampler of the user's.
    RewardError
        If the rollout function or the factory cannot be loaded; says why.
    SamplerError
        If what is given has not the methods of a sampler; names those.
    """
    if not config.online:
        return None
    function, address = rollout_function(config, inputs.rollout), parsed(config.sampler)
    if address.kind == "factory":
        if function is not None:
            raise ConfigError(
                f"rollout samples with transformers or vllm, and sampler = {config.sampler!r}; let"
                " the sampler call the function, and leave rollout out"
            )
        return _own(config, inputs.sampler)
    if address.kind == "vllm":
        return EngineSampler(config, _server(config, address.place), function)
    engine: Engine = Continuous() if address.kind == "continuous" else Transformers()
    return EngineSampler(config, engine, function)


def _server(config: Config, url: str) -> Engine:
    """Return the vLLM server of a run."""
    exact = config.old_logprobs != "recompute" and config.correction == "none"
    return Vllm(
        url,
        timeout=config.sampler_timeout,
        folder=config.sampler_folder,
        by=config.sampler_weights,
        name=config.output_dir,
        exact=exact,
        versions=config.max_staleness + 2,
    )


def refuse_cuts(config: Config) -> None:
    """Stop where a sampler would answer log-probabilities of another policy, or is no server.

    Raises
    ------
    ConfigError
        With the remedy.
    """
    kinds = {"vllm": "a vLLM server", "continuous": "continuous batching"}
    if config.sampler_weights == "nccl" and parsed(config.sampler).kind != "vllm":
        raise ConfigError(
            f"sampler_weights = 'nccl' is of a vLLM server, and sampler = {config.sampler!r}; leave"
            " it out"
        )
    if config.sampler_weights == "nccl" and config.sampler_folder is not None:
        raise ConfigError(
            f"sampler_folder = {config.sampler_folder!r}, and sampler_weights = 'nccl' passes"
            " weights by no folder; leave one of them out"
        )
    if (who := kinds.get(parsed(config.sampler).kind)) is None:
        return
    for name, all_of_them in (("top_p", 1.0), ("top_k", 0)):
        if (value := getattr(config, name)) != all_of_them:
            raise ConfigError(
                f"{name} = {value}: {who} answers log-probabilities of what that leaves, not of the"
                " policy; leave it out, or use sampler = 'transformers'"
            )


def _own(config: Config, given: Any) -> OwnSampler:
    """Return the sampler of the user's, made by its factory if it is not given."""
    if given is None:
        given = load(config.sampler, what="sampler")(config)
        name = f"sampler {config.sampler}"
    else:
        name = f"sampler {name_of(type(given))}"
    if missing := [method for method in _METHODS if not callable(getattr(given, method, None))]:
        raise SamplerError(
            f"{name} is a {type(given).__name__} without {', '.join(missing)}; see"
            " gspo_rs.samplers.Sampler for what it needs"
        )
    return OwnSampler(given, name)


def sampling_of(
    policy: Policy, config: Config, function: RolloutFunction | None = None
) -> EngineSampler:
    """Return the sampler that a policy is by itself, or for a rollout function."""
    return EngineSampler(config, Transformers(), function, policy=policy)


def reporting(sampler: Sampler, report: Report) -> Sampler:
    """Return the sampler, and what it has done goes to `report`, where it can say that."""
    return replace(sampler, report=report) if isinstance(sampler, EngineSampler) else sampler


def counted(sampler: Any) -> dict[str, list[float]]:
    """Return as metrics what a sampler has counted since it was last asked, if it counts."""
    take = getattr(sampler, "take_metrics", None)
    return {} if take is None else take()
