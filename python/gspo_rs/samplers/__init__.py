"""Samplers: they draw completions from the policy, here or in a server of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from gspo_rs.data.prompt_table import Prompts
    from gspo_rs.rollouts.rollouts import Rollouts

__all__ = ["SAMPLER_METRICS", "Policy", "Sampler", "SamplerError"]

SAMPLER_METRICS = "sampler/"
"""What the names of counts of samplers begin with; they are summed over calls and processes."""


class SamplerError(RuntimeError):
    """A sampler does not do what training needs of it; says what, where, and the remedy."""


class Ranks(Protocol):
    """The processes that train one policy together."""

    @property
    def main(self) -> bool:
        """Whether this is the one that writes."""

    def barrier(self) -> None:
        """Wait until all of them are here."""


class Policy(Protocol):
    """What a sampler may ask of the policy whose completions it draws."""

    @property
    def model(self) -> Any:
        """The model in training, whose weights change in place with every optimizer step."""

    @property
    def tokenizer(self) -> Any:
        """Its tokenizer, with the chat template of the run."""

    @property
    def temperature(self) -> float:
        """At which log-probabilities are to be."""

    @property
    def world(self) -> Ranks:
        """The processes that train it."""

    def sampling(self, function: Callable[[Any], Any]) -> Any:
        """Return ``function(model)``, without gradient, in its precision, and with all weights."""

    def weights(self) -> dict[str, Tensor] | None:
        """Return all weights where they are cut over processes; all of them have to ask."""

    def save(self, folder: Path, weights: dict[str, Tensor] | None = None) -> None:
        """Write model and tokenizer for `from_pretrained`."""


class Sampler(Protocol):
    """Draws the completions that a run learns from.

    A sampler that has `concurrent`, and it is True, may be asked to `sample` in one thread while
    another calls `refresh`; its rollouts say in `policy_versions` which weights drew each token.
    One that has ``take_metrics() -> dict[str, list[float]]`` is asked for what it has counted since
    it was last asked, after every batch.
    """

    def sample(self, prompts: Prompts, *, places: NDArray[np.int64], seed: int) -> Rollouts:
        """Draw the completions of some prompts.

        Parameters
        ----------
        prompts : Prompts of length n
            Texts or chat messages, with the other columns of their rows; there may be none.
        places : ndarray of int64, shape (n,)
            What stands for each prompt in the draws. Weights, seed, place and the number of a
            completion in its group decide what it is, not the prompts beside it.
        seed : int
            Of the draws.

        Returns
        -------
        Rollouts
            Group after group in the order of `prompts`, with `group_ids`, the rows of `prompts`;
            `prompt_tokens`, `completion_tokens` (up to a sampled end token, and with it),
            `sampler_logprobs` at the temperature of the run over the whole vocabulary, `truncated`,
            and rewards of NaN, or its own where the run has no reward function. A completion that
            could not be drawn is left out, and so is a prompt without any.
        """

    def refresh(self, policy: Policy, version: int) -> None:
        """Take the weights that the policy has now; from here on they draw.

        Called before the first `sample`, and whenever the weights have changed since. Of several
        processes all call it at once.

        Parameters
        ----------
        policy : Policy
            With its weights.
        version : int
            Optimizer steps that made them.
        """

    def close(self) -> None:
        """Let go of what it holds: connections, files, processes."""
