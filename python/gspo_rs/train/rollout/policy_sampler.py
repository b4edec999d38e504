"""The policy as a sampler with the settings of a run: temperature, group size, lengths, seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from gspo_rs.rollouts.rollouts import Rollouts
from gspo_rs.samplers import Policy
from gspo_rs.train.config.config import Config
from gspo_rs.train.progress import Report, silent
from gspo_rs.train.rollout.chat import is_chat, rendered
from gspo_rs.train.rollout.engine import Engine, Transformers

__all__ = ["PolicySampler", "derived_seed"]


@dataclass
class PolicySampler:
    """Samples completions of texts, of chat messages, or of tokens, with the settings of a run.

    Attributes
    ----------
    policy : Policy
        With the weights that sample.
    config : Config
        Of the run.
    seed : int
        What the calls draw follows from it and from their order.
    report : Report
        Gets how many completions of a call are done.
    numbers : sequence of int, optional
        What stands for each prompt of the batch in the draws; by default its row.
    calls : int
        Calls so far.
    engine : Engine
        Reads the policy.
    """

    policy: Policy
    config: Config
    seed: int
    report: Report = silent
    numbers: Sequence[int] | None = None
    calls: int = 0
    engine: Engine = field(default_factory=Transformers)

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of the policy."""
        return self.policy.tokenizer

    @property
    def num_generations(self) -> int:
        """Completions per prompt."""
        return self.config.num_generations

    @property
    def max_completion_length(self) -> int:
        """Most tokens of a completion."""
        return self.config.max_completion_length

    def generate(
        self,
        prompts: Sequence[Any],
        *,
        num_generations: int | None = None,
        max_completion_length: int | None = None,
        stop: str | Sequence[str] | None = None,
    ) -> Rollouts:
        """Sample completions at the temperature of the run.

        Parameters
        ----------
        prompts : sequence of str, of lists of chat messages, or of lists of int
            Messages are rendered by the chat template. Lists of int are tokens, which the policy
            reads as they are: what it has read and written before, to go on from.
        num_generations, max_completion_length : int, optional
            Completions of each prompt, and most tokens of one; those of the run by default.
        stop : str or sequence of str, optional
            Texts at which a completion ends; those of the run by default.

        Returns
        -------
        Rollouts
            Group after group in the order of `prompts`, with texts, `prompt_tokens`,
            `completion_tokens` (up to a sampled end token or a stop string, and with it),
            `sampler_logprobs`,
            `truncated`, and rewards of NaN. `group_ids` are rows of `prompts`: one that is too long
            is left out with ``on_long = "drop"``.

        Raises
        ------
        ValueError
            If a prompt is too long or has no token.
        PolicyError
            If messages cannot be rendered.

        Notes
        -----
        What is drawn for a prompt of the batch does not depend on the others, nor does it for what
        was sampled for each if a later call has as many for every prompt, group after group.
        """
        seed, numbers = self._draws(len(prompts))
        self.calls += 1
        tokens, options = _are_tokens(prompts), self.config.chat_template_kwargs
        texts = prompts if tokens else rendered(self.policy.tokenizer, prompts, options)

        return self.engine.generate(
            self.policy,
            texts,
            num_generations=num_generations or self.num_generations,
            max_completion_length=max_completion_length or self.max_completion_length,
            temperature=self.config.temperature,
            top_p=self.config.top_p,
            top_k=self.config.top_k,
            stop=self.config.stop if stop is None else stop,
            # What goes on from tokens has completions in it: the context alone is a limit.
            max_prompt_length=None if tokens else self.config.max_prompt_length,
            on_long_prompt=self.config.on_long,
            add_special_tokens=not is_chat(prompts),
            generation_batch=self.config.generation_batch,
            prompt_numbers=numbers,
            seed=seed,
            progress=partial(self.report, "sampling"),
        )

    def _draws(self, n: int) -> tuple[int, Sequence[int] | None]:
        """Return the seed of a call for `n` prompts, and what stands for each in the draws."""
        each, rest = divmod(n, len(self.numbers)) if self.numbers else (1, 0)
        seed = self.seed
        if self.calls or each > 1:
            seed = derived_seed(seed, f"call for {each}", self.calls)
        if not self.numbers or not n:
            return seed, None
        if rest or not each:  # some of them, nobody knows which
            return derived_seed(seed, "rows", self.numbers[0]), None
        return seed, [number * each + place for number in self.numbers for place in range(each)]


def _are_tokens(prompts: Sequence[Any]) -> bool:
    first = prompts[0] if len(prompts) else ""
    return not isinstance(first, str) and all(isinstance(one, int | np.integer) for one in first)


def derived_seed(seed: int, purpose: str, index: int) -> int:
    """Derive a separate seed for each purpose and position of a run.

    Parameters
    ----------
    seed : int
        Of the run.
    purpose : str
        What is drawn.
    index : int
        Which draw.

    Returns
    -------
    int
        In ``[0, 2**62)``.

    Examples
    --------
    >>> derived_seed(0, "sample", 1) == derived_seed(0, "sample", 2)
    False
    """
    words = np.random.SeedSequence([seed, index, *purpose.encode()]).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(2))
