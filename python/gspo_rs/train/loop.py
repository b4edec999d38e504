"""The training loop: `train` and its `Result`."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gspo_rs.data.source import SourceLike
from gspo_rs.files import atomic
from gspo_rs.files.lock import locked
from gspo_rs.rewards.functions import RewardFunction
from gspo_rs.rollouts.rollouts import Rollouts
from gspo_rs.samplers import Sampler
from gspo_rs.train import checkpoint, continuation, final, metrics, reference, torchrun
from gspo_rs.train.config.config import Config, resolve
from gspo_rs.train.config.toml import placed
from gspo_rs.train.console import display, without_bars
from gspo_rs.train.dataset import Dataset, of_model, with_columns
from gspo_rs.train.inputs import Inputs, separate
from gspo_rs.train.interruptions import Interruptions
from gspo_rs.train.ledger import Ledger
from gspo_rs.train.notebook import html
from gspo_rs.train.random_state import seed_generators
from gspo_rs.train.rollout.function import RolloutFunction
from gspo_rs.train.rollout.logged_completions import forget_after
from gspo_rs.train.rollout.prepare import needs_start
from gspo_rs.train.rollout.samplers import refuse_cuts
from gspo_rs.train.rollout.stream import StreamEndedError
from gspo_rs.train.run import Run
from gspo_rs.train.watch import warn_of_narrow_clip, wide_clip_is_meant
from gspo_rs.train.world import World, joined, refuse_in_world

__all__ = ["Config", "Result", "train"]

_log = logging.getLogger("gspo_rs")


@dataclass(frozen=True)
class Result:
    """What a run produced.

    Attributes
    ----------
    final : Path
        The trained model and its tokenizer, for `from_pretrained`.
    metrics_file : Path
        One JSON object per step; `gspo_rs.train.metrics.read` reads it.
    steps : int
        Optimizer steps in all, those before a resume included.
    metrics : dict of str to float
        Of the last step taken.

    Notes
    -----
    A notebook shows it as a table of the last metrics and the curves of reward and percentile.
    """

    final: Path
    metrics_file: Path
    steps: int
    metrics: dict[str, float]

    def _repr_html_(self) -> str:
        return html(metrics.read(self.metrics_file), title=f"{self.steps:,} steps: {self.final}")


def train(
    config: Config | None = None,
    *,
    reward: RewardFunction | Sequence[RewardFunction] | str | Sequence[str] | None = None,
    rollout: RolloutFunction | str | None = None,
    sampler: Sampler | str | None = None,
    prompts: SourceLike | None = None,
    rollouts: SourceLike | Iterable[Rollouts] | None = None,
    eval_prompts: SourceLike | None = None,
    model: Any = None,
    tokenizer: Any = None,
    resume: bool = False,
    quiet: bool = False,
    **fields: Any,
) -> Result:
    """Train a causal language model with groups.

    Parameters
    ----------
    config : Config, optional
        What to train, on what, and how; the arguments below can say it as well, and replace its
        fields. Online with `prompts`, offline with `rollouts`.
    reward : callable or str, or a sequence of these, optional
        Reward functions with TRL's signature, of different names, or where they are.
    rollout : callable or str, optional
        ``f(sampler, prompts, **columns) -> Rollouts``, or where it is: samples in place of one
        completion at a time (`gspo_rs.train.rollout.policy_sampler`). Without `reward` its
        rewards are taken.
    sampler : Sampler or str, optional
        Who draws the completions, in place of the policy itself: what `Config.sampler` names, or
        an object with the methods of `gspo_rs.samplers.Sampler`.
    prompts, rollouts, eval_prompts : source, optional
        Data as for all of `gspo_rs`: paths, DataFrames and LazyFrames of Polars, DataFrames of
        pandas, Arrow tables, `datasets`, a list of rows or a dict of columns. `rollouts` may also
        be an iterator of `gspo_rs.rollouts.Rollouts`, or a list of them, each a batch with tokens,
        rewards and the log-probabilities of the policy that drew it.
    model : str or transformers.PreTrainedModel, optional
        A folder or hub name, or the model itself in float32, which is trained in place. Its
        adapters, with `lora_r`, are added to it.
    tokenizer : transformers.PreTrainedTokenizerBase, optional
        In place of the model's own; needed where the model is in memory.
    resume : bool
        Go on from the newest checkpoint in ``config.output_dir``, to weights that are bit-equal
        on a CPU to those of a run that was not stopped, unless it samples ahead. Of a run that is
        over nothing is touched.
        What was given in memory is to be given again: data of the same content, and a model
        with the weights that the run started from where they matter (`lora_r`, a reference
        policy); otherwise it gets those of the checkpoint.
    quiet : bool
        Show nothing: no steps while it trains, and no summary at its end.
    **fields
        Further fields of `Config`, such as ``max_steps=10``.

    Returns
    -------
    Result
        Where the model and the metrics are.

    Raises
    ------
    ConfigError
        If `config` cannot be run, its output folder holds a run and `resume` is off, or no
        checkpoint and `resume` is on, or configuration or data differ from the checkpoint's in
        what is learned.
    CheckpointError, PolicyError, RewardError, RolloutError, LengthError, ValueError
        If a checkpoint, the model, the reward or rollout function or the data cannot be used.
    SamplerError
        If the sampler does not serve this policy, or does not answer.
    RuntimeError
        If another process trains in the folder.
    TrainingDivergedError
        If loss or gradient were not finite in three steps after one another.

    Notes
    -----
    The groups of `prompts_per_step` prompts make one optimizer step; `steps_per_generation` such
    minibatches are sampled at once, so that the policy moves away from the one that sampled and
    the ratio matters. Checkpoints are written between batches of rollouts, after the last step,
    and when Ctrl-C or SIGTERM (where it raises a KeyboardInterrupt) ends the run.
    """
    things: dict[str, Any] = {
        "prompts": prompts,
        "rollouts": rollouts,
        "eval_prompts": eval_prompts,
    }
    things |= {"reward": reward, "rollout": rollout, "sampler": sampler}
    things |= {"model": model, "tokenizer": tokenizer}
    config, inputs = separate(config, things, fields)
    config = checked(config, inputs)
    folder = Path(config.output_dir)
    if resume and not folder.is_dir():
        continuation.find(folder, resume=True)
    with (
        joined(config.ddp_timeout) as world,
        Interruptions(together=world.size > 1) as interruptions,
        _alone(folder, world),
    ):
        return _train(config, inputs, interruptions, world, resume=resume, quiet=quiet)


def checked(config: Config, inputs: Inputs) -> Config:
    """Return a configuration with its preset and absolute paths; raise if it cannot be run.

    Raises
    ------
    ConfigError
        With the remedy.
    WorldError
        If the environment does not say how many processes there are.
    """
    # At once, because a reward function may change the working directory.
    config = placed(resolve(config), Path.cwd())
    refuse_in_world(config, torchrun.size())
    refuse_cuts(config)
    inputs.refuse_missing(config)
    atomic.refuse_unreplaceable(Path(config.output_dir) / "final")
    if not inputs.streams:
        warn_of_narrow_clip(config)
    return config


def opened(
    config: Config, inputs: Inputs, *, resume: bool
) -> tuple[Config, Dataset, checkpoint.Checkpoint | None]:
    """Open the data of a run, and find the checkpoint that it goes on from.

    Returns
    -------
    config : Config
        With the columns that its data has.
    data : Dataset
    found : Checkpoint or None
        Of the same configuration and data.

    Raises
    ------
    ConfigError, CheckpointError, ValueError, TypeError, OSError
        If the data can't be read, or the checkpoint is not of this run.
    """
    found = continuation.find(Path(config.output_dir), resume=resume)
    config = with_columns(config, inputs)
    data = _with_model(Dataset.open(config, inputs), config, inputs)
    if found is not None:
        continuation.check(found, config, data)
    return config, data, found


def _with_model(data: Dataset, config: Config, inputs: Inputs) -> Dataset:
    """Fingerprint a model in memory as well, where the run needs the weights it starts from."""
    if inputs.model is None or not (config.lora_r or needs_start(config)):
        return data
    found = {"model": of_model(inputs.model)}
    return dataclasses.replace(data, fingerprints={**data.fingerprints, **found})


def _train(
    config: Config,
    inputs: Inputs,
    interruptions: Interruptions,
    world: World,
    *,
    resume: bool,
    quiet: bool,
) -> Result:
    folder = Path(config.output_dir)
    config, data, found = opened(config, inputs, resume=resume)
    same = {"the configuration": repr(config), "the data": repr(data.fingerprints)}
    world.agree(**same, **{"the checkpoint": "none" if found is None else str(found.step)})
    if found is not None and continuation.finished(folder, found, data.steps(config)):
        return _over(folder, found)
    seed_generators(config.seed)
    quiet = quiet or not world.main
    run = Run.begin(
        config, inputs, data, found, interruptions=interruptions, world=world, shown=not quiet
    )
    # Only now it is known how many prompts are left, and so steps.
    if found is not None and continuation.finished(folder, found, run.total):
        return _over(folder, found)
    run.display = display(run.total, run.step, config.logging_steps, quiet=quiet)
    if not quiet:
        run.display.note(run.memory)
    after = -1 if found is None else found.step
    run.file = metrics.MetricsFile(folder / "metrics.jsonl" if world.main else None, after)
    kept = folder / "ledger.jsonl" if world.main and config.online else None
    run.ledger = Ledger(kept, after, run.data.n_groups)
    if world.main:
        atomic.sweep(folder)
        if found is not None:
            forget_after(folder, found.step)
    try:
        _carry_out(run, folder)
    except StreamEndedError:
        if run.saved != run.step:
            run.save(folder)
        raise
    except KeyboardInterrupt:
        _leave(run, folder)
        if inputs.given:
            _log.warning("to go on, give again what is in memory: %s", ", ".join(inputs.given))
        raise
    finally:
        run.close()
    return Result(folder / "final", folder / "metrics.jsonl", run.step, run.latest)


def _carry_out(run: Run, folder: Path) -> None:
    """Train to the end and write the model."""
    with without_bars(), wide_clip_is_meant(run.config), run.display:
        _take_reference(run)
        if run.step == 0:
            run.compare_start()
        run.go(folder)
        with run.display.timed("checkpoint"):
            final.write(run.policy, run.config, folder, step=run.step, stored=run.stored)
    if run.policy.world.main:
        run.display.finish(metrics.read(folder / "metrics.jsonl"), folder)


def _take_reference(run: Run) -> None:
    """Compute what the starting policy says of all that is read, unless it is known."""
    with run.display.timed("reference"):
        run.reference = reference.completed(
            run.reference,
            run.policy,
            run.config,
            run.data,
            frozen=run.frozen,
            moved=run.step > 0,
            report=run.display.report,
        )
    if run.reference is not None:
        run.frozen = None


def _leave(run: Run, folder: Path) -> None:
    """Write a checkpoint of an interrupted run, unless it was interrupted twice."""
    if run.interruptions.held:
        _log.warning("stopped within step %d of %d, without a checkpoint", run.step, run.total)
        return
    run.interruptions.save()
    _log.warning(
        "stopped after step %d of %d; writing a checkpoint, Ctrl-C again exits without it",
        run.step,
        run.total,
    )
    if run.saved != run.step or run.unrecorded is not None:
        run.save(folder)


def _over(folder: Path, found: checkpoint.Checkpoint) -> Result:
    """Return the result of a finished run, without changing it."""
    _log.info("nothing left to do: all %d steps are done and the model is written", found.step)
    records = metrics.read(folder / "metrics.jsonl")
    last = records[-1] if records else {}
    return Result(folder / "final", folder / "metrics.jsonl", found.step, last)


@contextmanager
def _alone(folder: Path, world: World) -> Iterator[None]:
    """Lock the folder against other runs; remove it if it was created for the lock alone.

    The main process locks it for all.
    """
    if not world.main:
        world.barrier()
        yield
        return
    made = not folder.exists()
    lock = folder / ".lock"
    try:
        with locked(lock, folder):
            try:
                world.barrier()
                yield
            finally:
                lock.unlink(missing_ok=True)
    finally:
        if made and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
