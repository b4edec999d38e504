"""What draws completions for the policy: the protocol, and transformers, which reads it here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from gspo_rs.rollouts.rollouts import Rollouts
from gspo_rs.samplers import Policy, transformers

__all__ = ["Engine", "Transformers"]


class Engine(Protocol):
    """Draws completions of any prompts with the options of a call, and follows the policy."""

    def generate(self, policy: Policy, prompts: Sequence[Any], *_: Any, **options: Any) -> Rollouts:
        """Draw as `gspo_rs.samplers.transformers.generate` does, which says what `options` are."""

    def refresh(self, policy: Policy, version: int) -> None:
        """Take the weights of the policy, which are those of `version`."""

    def close(self) -> None:
        """Let go of what it holds."""


class Transformers:
    """The policy itself, read by transformers: its weights are always those of now."""

    def generate(self, policy: Policy, prompts: Sequence[Any], **options: Any) -> Rollouts:
        """Draw completions; see `gspo_rs.samplers.transformers.generate`."""

        def sample(model: Any) -> Rollouts:
            return transformers.generate(model, policy.tokenizer, prompts, **options)

        found: Rollouts = policy.sampling(sample)
        return found

    def refresh(self, policy: Policy, version: int) -> None:
        """Do nothing: the weights change in place."""

    def close(self) -> None:
        """Do nothing: it holds nothing."""
