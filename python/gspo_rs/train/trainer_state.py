"""What a reward function is told about the run: how far it is, under TRL's names."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from gspo_rs.train import metrics
from gspo_rs.train.config.config import Config
from gspo_rs.train.dataset import Dataset

__all__ = ["TrainerState", "state_of"]


@dataclass(frozen=True)
class TrainerState:
    """How far a run is, as `transformers.TrainerState` says it.

    Attributes
    ----------
    global_step : int
        Optimizer steps taken, those before a resume included.
    max_steps : int
        Optimizer steps of the whole run.
    epoch : float
        Passes over the prompts so far.
    num_train_epochs : int
        Passes of the whole run, the last one counted whole.
    logging_steps, eval_steps, save_steps : int
        Of the configuration.
    metrics_file : Path
        Of the run.
    is_local_process_zero, is_world_process_zero : bool
        True: a run is one process.
    """

    global_step: int
    max_steps: int
    epoch: float
    num_train_epochs: int
    logging_steps: int
    eval_steps: int
    save_steps: int
    metrics_file: Path
    is_local_process_zero: bool = True
    is_world_process_zero: bool = True

    @property
    def log_history(self) -> list[dict[str, float]]:
        """The metrics of all steps so far, read from the file, under the names they have there."""
        return metrics.read(self.metrics_file)


def state_of(config: Config, data: Dataset, step: int) -> TrainerState:
    """Return the state of a run after `step` optimizer steps.

    Parameters
    ----------
    config : Config
        Resolved.
    data : Dataset
        Tells how many prompts there are.
    step : int
        Optimizer steps taken.
    """
    total = data.steps(config)
    each = data.n_groups * config.num_iterations / config.prompts_per_step
    epochs = config.num_train_epochs
    return TrainerState(
        global_step=step,
        max_steps=total,
        epoch=step / each,
        num_train_epochs=epochs if config.max_steps is None else math.ceil(total / each),
        logging_steps=config.logging_steps,
        eval_steps=config.eval_steps,
        save_steps=config.save_steps,
        metrics_file=Path(config.output_dir) / "metrics.jsonl",
    )
