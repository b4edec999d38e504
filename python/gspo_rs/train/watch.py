"""Failures that a run counts, when it warns of them, and when they stop it."""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from gspo_rs.losses.clip import WIDE_SEQUENCE_CLIP
from gspo_rs.train.config.config import Config, ConfigError
from gspo_rs.train.model.policy import Policy
from gspo_rs.train.rollout.collect import RolloutBatch
from gspo_rs.train.step.update import TrainingDivergedError

_log = logging.getLogger("gspo_rs")
_PATIENCE = 3
_SEQUENCE_CLIP = frozenset({"gspo", "gspo_token", "luspo"})


@dataclass
class Watch:
    """Counts of failures so far.

    Attributes
    ----------
    failures : int
        Consecutive skipped steps.
    long : int
        Consecutive batches whose rows were all too long.
    flat : bool
        Whether groups with signal had advantages of 0, which is reported once.
    """

    failures: int = 0
    long: int = 0
    flat: bool = False

    def step(self, metrics: Mapping[str, float], step: int, config: Config) -> None:
        """Count consecutive skipped steps and stop at the third.

        Raises
        ------
        TrainingDivergedError
            Names the steps.
        """
        if not metrics.get("skipped"):
            self.failures = 0
            return
        self.failures += 1
        loss, norm = metrics["loss"], metrics["grad_norm"]
        _log.warning("step %d skipped: loss %g, gradient norm %g", step, loss, norm)
        if self.failures == _PATIENCE:
            raise TrainingDivergedError(
                f"loss or gradient were not finite in steps {step - _PATIENCE + 1} to {step};"
                f" lower learning_rate ({config.learning_rate}) or look at the rewards and the data"
            )

    def rows(self, batch: RolloutBatch, batches: int, per_epoch: int) -> None:
        """Stop when every row of an epoch of scored completions was too long.

        Raises
        ------
        ConfigError
            With the remedy.
        """
        self.long = self.long + 1 if batch.too_long.all() else 0
        if self.long >= per_epoch and (batches + 1) % per_epoch == 0:
            raise ConfigError(
                "every row of an epoch is too long; raise max_completion_length or"
                " max_prompt_length where the model allows"
            )

    def advantages(self, metrics: Mapping[str, float], step: int, config: Config) -> None:
        """Warn once if an estimator gives 0 to groups with signal, such as pkpo to small ones."""
        groups = metrics["zero_advantage_groups"]
        if groups and not self.flat:
            _log.warning(
                "step %d: %d groups have a signal, but all their %s advantages are 0; groups may"
                " be too small for its options, see zero_advantage_groups",
                step,
                groups,
                config.advantage,
            )
        self.flat = self.flat or bool(groups)


def warn_of_narrow_clip(config: Config) -> None:
    """Warn of a clip of sequence ratios that ends an offline run before its last step.

    Parameters
    ----------
    config : Config
        Resolved.
    """
    if config.online or config.loss not in _SEQUENCE_CLIP:
        return
    assert config.clip_low is not None
    assert config.clip_high is not None
    if max(config.clip_low, config.clip_high) <= WIDE_SEQUENCE_CLIP:
        _log.warning(
            "clip_low = %g, clip_high = %g: offline the old policy stays what it was, and once the"
            " ratio of a completion to it has left so narrow a band it teaches nothing any more;"
            " within a few steps that is most of them (clip/token); set clip_low = 0.2 and"
            " clip_high = 0.2",
            config.clip_low,
            config.clip_high,
        )


@contextmanager
def wide_clip_is_meant(config: Config) -> Iterator[None]:
    """Keep the losses of an offline run from warning of the wide clip that it needs."""
    with warnings.catch_warnings():
        if not config.online:
            warnings.filterwarnings("ignore", message="clip_low=.* hardly ever clip")
        yield


def refuse_long_prompts(skipped: int, n_groups: int, config: Config) -> None:
    """Stop when every prompt has come at least once and none fits.

    Raises
    ------
    ConfigError
        With the remedy.
    """
    if skipped * config.prompts_per_step * config.steps_per_generation >= 2 * n_groups:
        raise ConfigError(
            f"every prompt of an epoch is too long, {n_groups} in all; raise max_prompt_length"
            " where the model allows, or lower max_completion_length"
        )


def refuse_no_room(policy: Policy, config: Config) -> None:
    """Stop where completions of full length leave no token of the model's context for a prompt.

    Raises
    ------
    ConfigError
        With the remedy.
    """
    room = None if policy.context is None else policy.context - config.max_completion_length
    if config.online and room is not None and room < 1:
        raise ConfigError(
            f"max_completion_length = {config.max_completion_length}: the model's context of"
            f" {policy.context} tokens leaves none for a prompt; lower it"
        )
