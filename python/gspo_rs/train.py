"""Train: the loop that turns rollouts into a policy that ranks higher in its own groups."""

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from gspo_rs import atomic, checkpoint, metrics
from gspo_rs.config import Config, ConfigError, resolve
from gspo_rs.display import Display
from gspo_rs.rewards import RewardFunction
from gspo_rs.run import Run
from gspo_rs.runfile import changed

__all__ = ["Config", "Result", "train"]

_log = logging.getLogger("gspo_rs")

# What a resumed run may have otherwise: it changes where the run stops, what is kept or shown, or
# how a step is cut, but not what is learned.
_FREE = frozenset(
    {
        "output_dir",
        "save_steps",
        "save_total_limit",
        "logging_steps",
        "eval_steps",
        "spill_directory",
        "device",
        "layout",
        "micro_batch_tokens",
        "attn_implementation",
    }
)
_ENDS = frozenset({"max_steps", "num_train_epochs"})


@dataclass(frozen=True)
class Result:
    """What a run left behind.

    Attributes
    ----------
    final : Path
        The trained model and its tokenizer, for `from_pretrained`.
    metrics_file : Path
        One JSON object per step; `gspo_rs.metrics.read` reads it.
    steps : int
        Optimizer steps in all, those before a resume included.
    metrics : dict of str to float
        Of the last step taken.
    """

    final: Path
    metrics_file: Path
    steps: int
    metrics: dict[str, float]


def train(
    config: Config,
    *,
    reward: RewardFunction | Sequence[RewardFunction] | None = None,
    resume: bool = False,
) -> Result:
    """Train a causal language model with groups.

    Parameters
    ----------
    config : Config
        What to train, on what, and how. Online with `prompts`, offline with `rollouts`.
    reward : callable or sequence of callable, optional
        Reward functions, of different names, in place of those that ``config.reward`` names.
    resume : bool
        Go on from the newest checkpoint in ``config.output_dir``, to weights that are bit-equal
        on a CPU to those of a run that was not stopped. Without one the run starts anew.

    Returns
    -------
    Result
        Where the model and the metrics are.

    Raises
    ------
    ConfigError
        If `config` cannot be run, its output folder holds a run and `resume` is off, or it differs
        from the checkpoint's in what is learned.
    CheckpointError, PolicyError, RewardError, LengthError, ValueError
        If a checkpoint, the model, the reward function or the data cannot be used.
    TrainingDivergedError
        If loss or gradient were not finite in three steps after one another.

    Notes
    -----
    The groups of `prompts_per_step` prompts make one optimizer step; `steps_per_generation` such
    minibatches are sampled at once, so that the policy moves away from the one that sampled and
    the ratio matters. Checkpoints are written between batches of rollouts.
    """
    config = resolve(config)
    folder = Path(config.output_dir)
    found = _found(folder, config, resume=resume)
    _seed(config.seed)
    run = Run.begin(config, reward, found)
    after = -1 if found is None else found.step
    run.file = metrics.MetricsFile(folder / "metrics.jsonl", after)
    try:
        with Display(run.total, config.logging_steps) as run.display:
            if found is None:
                run.compare_start()
            run.go(folder)
    except KeyboardInterrupt:
        _log.warning("stopped after step %d of %d; resume to go on", run.step, run.total)
        raise
    finally:
        run.file.close()
    final = folder / "final"
    with atomic.directory(final) as partial:
        run.policy.save(partial)
    return Result(final, folder / "metrics.jsonl", run.step, run.latest)


def _found(folder: Path, config: Config, *, resume: bool) -> checkpoint.Checkpoint | None:
    """Read the newest checkpoint of a run to be resumed, or see that the folder holds none."""
    paths = checkpoint.steps(folder)
    if not resume:
        begun = any(record["step"] > 0 for record in metrics.read(folder / "metrics.jsonl"))
        if paths or begun or (folder / "final").exists():
            raise ConfigError(
                f"output_dir = {config.output_dir!r} holds a run already; resume it"
                " (--resume), or choose or empty another folder"
            )
        return None
    atomic.sweep(folder)
    if not paths:
        return None
    found = checkpoint.read(paths[-1])
    free = _FREE | (_ENDS if config.lr_scheduler_type == "constant" else frozenset())
    for key in changed(config, found.config, free):
        before, now = getattr(found.config, key), getattr(config, key)
        raise ConfigError(f"{key} = {now!r}, but {paths[-1]} was trained with {before!r}")
    return found


def _seed(seed: int) -> None:
    random.seed(seed)
    # A reward function may draw from the global generator; it should draw the same again.
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
