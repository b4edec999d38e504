"""Dataset: what a run learns from, opened, counted and fingerprinted to detect changes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from gspo_rs import data
from gspo_rs.data.column_names import path_to
from gspo_rs.data.group_index import GroupIndex
from gspo_rs.data.known_schemas import columns_of
from gspo_rs.data.prompt_table import Prompts
from gspo_rs.data.schema import as_names
from gspo_rs.data.source import Source, locate
from gspo_rs.data.turns import turns
from gspo_rs.files.grades import graded
from gspo_rs.groups.estimators import ESTIMATORS
from gspo_rs.rewards.functions import refuse_names
from gspo_rs.train.config.config import Config, ConfigError
from gspo_rs.train.config.sections import default_of
from gspo_rs.train.inputs import MEMORY, NOTHING, Inputs

_log = logging.getLogger("gspo_rs")


@dataclass(frozen=True)
class Fingerprint:
    """What distinguishes data from other data under the same name.

    Attributes
    ----------
    rows : int
        Number of rows.
    digest : str
        Of the rows' content for prompts, of the files' bytes for rollouts.
    """

    rows: int
    digest: str


@dataclass(frozen=True)
class Stream:
    """Batches of `Rollouts` that code of the user's makes: an iterator, or a list of them."""

    batches: Any


@dataclass(frozen=True)
class Dataset:
    """What a run learns from.

    Attributes
    ----------
    source : Prompts, GroupIndex or Stream
        Prompts online, the groups of scored completions offline, or rollouts as they come.
    exam : Prompts or None
        Prompts on which the policy is compared with the starting policy.
    fingerprints : dict of str to Fingerprint
        ``prompts`` and ``eval_prompts``, or ``rollouts``, and ``chat_template`` if it is a file, as
        they were when they were opened. Of rollouts at an address, too far to be read twice, the
        groups stand for the bytes.
    rollouts : Source or None
        Offline, the rows behind the groups.
    informative : bool
        Whether only groups with a signal are read.
    dropped : int
        Prompts that were left out because they are too long.
    """

    source: Prompts | GroupIndex | Stream
    exam: Prompts | None
    fingerprints: dict[str, Fingerprint]
    rollouts: Source | None = None
    informative: bool = False
    dropped: int = 0

    @classmethod
    def open(cls, config: Config, inputs: Inputs = NOTHING) -> Dataset:
        """Read prompts, or the ids and rewards of rollouts.

        Parameters
        ----------
        config : Config
            Resolved.
        inputs : Inputs, optional
            What is in memory.

        Returns
        -------
        Dataset
            Checked.
        """
        found = _of_template(config)
        if inputs.streams:
            if config.max_steps is None:
                raise ConfigError("max_steps is missing: an iterator of rollouts has no length")
            return cls(Stream(inputs.rollouts), None, found)
        if not config.online:
            rows = _rollouts(config, inputs)
            index = _indexed(rows, config)
            found["rollouts"] = _of_rollouts(rows, index, config)
            return cls(index, None, found, rows, informative=bool(config.dynamic_sampling))
        source = _prompts("prompts", config, inputs)
        found["prompts"] = _of_prompts(source)
        if config.eval_size == 0:
            return cls(source, None, found)
        exam = source
        if config.eval_prompts is not None:
            exam = _prompts("eval_prompts", config, inputs)
            found["eval_prompts"] = _of_prompts(exam)
        return cls(source, exam.select(range(min(config.eval_size, len(exam)))), found)

    @property
    def n_groups(self) -> int:
        """Number of prompts, or of groups of rollouts that are read; 0 where nobody knows."""
        if isinstance(self.source, Stream):
            return 0
        if isinstance(self.source, Prompts):
            return len(self.source)
        return int(self.source.informative.sum()) if self.informative else self.source.n_groups

    def steps(self, config: Config) -> int:
        """Return the total number of optimizer steps under a configuration."""
        if config.max_steps is not None:
            return config.max_steps
        full, rest = divmod(self.n_groups, config.prompts_per_step * config.steps_per_generation)
        if config.online:
            steps = -(-self.n_groups * config.num_train_epochs // config.prompts_per_step)
        else:
            steps = full * config.steps_per_generation + -(-rest // config.prompts_per_step)
            steps *= config.num_train_epochs
        return steps * config.num_iterations

    def batches(self, config: Config) -> int:
        """Return the number of batches of rollouts per epoch; 1 where nobody knows."""
        return max(-(-self.n_groups // (config.prompts_per_step * config.steps_per_generation)), 1)


def with_columns(config: Config, inputs: Inputs = NOTHING) -> Config:
    """Return a configuration that names the columns of its rollouts as a known schema has them.

    Only those that have their default, and are not there under it; of prompts nothing is changed.
    Batches of `Rollouts` have fields in place of columns, the old log-probabilities among them.

    Raises
    ------
    ValueError
        If nothing says which rows are of one prompt; lists the columns.
    """
    if config.online:
        return config
    if inputs.streams:
        return dataclasses.replace(config, old_logprobs_column="sampler_logprobs")
    rows = _rollouts(config, inputs)
    schema = rows.check([])

    def known(name: str) -> Any:
        """Return the name in the configuration; None if that is the default and not there."""
        value, default = getattr(config, name), default_of(name)
        absent = isinstance(value, str) and path_to(schema, value) is None
        return None if value == default and absent else value

    parts = {name: known(name) for name in ("by", "reward_column", "prompt", "completion")}
    if None not in parts.values():
        return config
    by, reward = parts.pop("by"), parts.pop("reward_column")
    first = reward[0] if isinstance(reward, tuple) else reward
    found = columns_of(rows, by, first, **parts)
    return dataclasses.replace(
        config,
        by=by or found.by,  # None where each row is a group
        reward_column=reward or found.reward,
        prompt=found.prompt or config.prompt,
        completion=found.completion or config.completion,
    )


def _rollouts(config: Config, inputs: Inputs) -> Source:
    given = inputs.source("rollouts", config)
    if config.grades is None:
        return locate(given, config.split)
    return graded(given, config.grades, split=config.split)


def of_model(model: torch.nn.Module) -> Fingerprint:
    """Return what distinguishes the weights of a model from others; rows are its numbers."""
    found, count = hashlib.blake2b(digest_size=16), 0
    for name, tensor in model.state_dict().items():
        found.update(name.encode())
        whole = tensor.detach().cpu().contiguous().flatten()
        found.update(whole.view(torch.uint8).numpy().tobytes())
        count += tensor.numel()
    return Fingerprint(count, found.hexdigest())


def _of_template(config: Config) -> dict[str, Fingerprint]:
    """Return what distinguishes the file of a chat template; its rows are lines."""
    path = Path(config.chat_template or "")
    if not path.is_file():
        return {}
    text = path.read_bytes()
    return {"chat_template": Fingerprint(len(text.splitlines()), _digest(iter([text])))}


def _prompts(key: str, config: Config, inputs: Inputs) -> Prompts:
    split = config.split if key == "prompts" else config.eval_split
    found = data.prompts(locate(inputs.source(key, config), split), prompt=config.prompt)
    refuse_names(found.columns, str(getattr(config, key)).removeprefix(MEMORY))
    return found


def _indexed(rows: Source, config: Config) -> GroupIndex:
    assert config.advantage is not None
    index = data.index_groups(
        rows,
        by=config.by,
        reward=config.reward_column,
        reward_weights=config.reward_weights,
        apart=ESTIMATORS[config.advantage].several,
        rollout_ids=config.rollout_ids_column,
    )
    _log.info(
        "%d rollouts in %d groups; %d groups without signal, %d rewards missing",
        index.n_rollouts,
        index.n_groups,
        index.n_uninformative,
        index.n_unscorable,
    )
    if config.dynamic_sampling and index.n_uninformative == index.n_groups:
        raise ConfigError(
            f"no group of {rows.name} has a signal, so dynamic_sampling leaves nothing to learn"
            " from; look at the rewards"
        )
    return index


def _of_rollouts(located: Source, index: GroupIndex, config: Config) -> Fingerprint:
    if files := (*located.files, *located.behind):
        parts = _of_files(files)
    else:
        in_memory = str(config.rollouts).startswith(MEMORY)
        content = _of_rows(located, config) if in_memory else iter(())
        parts = chain([index.groups.codes.tobytes()], content)
    return Fingerprint(index.n_rollouts, _digest(parts))


def _of_rows(located: Source, config: Config) -> Iterator[bytes]:
    """Yield what a run reads of rows in memory, in a spelling that no version of Polars changes."""
    said = (turn.name for turn in turns(located, config.prompt, config.completion))
    named = [*said, *as_names(config.reward_column, "reward_column")]
    more = (
        config.old_logprobs_column,
        config.prompt_tokens_column,
        config.completion_tokens_column,
        config.completion_mask_column,
        config.truncated_column,
        config.reference_rewards_column,
        config.rollout_ids_column,
    )
    names = dict.fromkeys([*named, *(name for name in more if name is not None)])
    columns = [located.column(name).alias(name) for name in names]
    for frame in located.batches(columns, located.count()):
        yield frame.write_ndjson().encode()


def _of_prompts(prompts: Prompts) -> Fingerprint:
    columns = sorted(prompts.columns.items())
    parts = (json.dumps(part, default=repr).encode() for part in (prompts.texts, columns))
    return Fingerprint(len(prompts), _digest(parts))


def _of_files(files: tuple[str, ...]) -> Iterator[bytes]:
    def of_file(path: str) -> bytes:
        with open(path, "rb") as file:  # noqa: PTH123 -- `file_digest` wants the plain object
            return hashlib.file_digest(file, "blake2b").digest()

    with ThreadPoolExecutor() as pool:
        yield from pool.map(of_file, files)


def _digest(parts: Iterator[bytes]) -> str:
    found = hashlib.blake2b(digest_size=16)
    for part in parts:
        found.update(part)
    return found.hexdigest()
