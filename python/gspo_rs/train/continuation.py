"""Resuming: whether a run can continue from its output folder, and why not."""

import os
from dataclasses import replace
from pathlib import Path

from gspo_rs.samplers.address import parsed
from gspo_rs.train import checkpoint, final, metrics
from gspo_rs.train.config.config import Config, ConfigError
from gspo_rs.train.config.toml import changed
from gspo_rs.train.dataset import Dataset

# What a resumed run may have otherwise: it changes where the run stops, what is kept or shown, or
# how a step is cut, but not what is learned. Data may lie elsewhere if they are the same.
_FREE = frozenset(
    {
        "output_dir",
        "save_steps",
        "save_total_limit",
        "logging_steps",
        "log_completions",
        "reward_workers",
        "reward_timeout",
        "reward_sandbox",
        "on_reward_failure",
        "max_ahead_bytes",
        "eval_steps",
        "spill_directory",
        "sampler_timeout",
        "sampler_weights",
        "sampler_folder",
        "device",
        "ddp_timeout",
        "replicas",
        "layout",
        "micro_batch_tokens",
        "logits_chunk_size",
        "generation_batch",
        "attn_implementation",
        "gradient_checkpointing",
    }
)
_ENDS = frozenset({"max_steps", "num_train_epochs"})
_DATA = ("prompts", "rollouts", "eval_prompts")
_ANEW = "or start a new run in another output_dir"


def find(folder: Path, *, resume: bool) -> checkpoint.Checkpoint | None:
    """Read the newest checkpoint of a run to resume, or check that the folder holds no run.

    Parameters
    ----------
    folder : Path
        The output folder; may be absent.
    resume : bool
        Whether to resume the run.

    Returns
    -------
    Checkpoint or None
        None for a new run.

    Raises
    ------
    ConfigError
        If there is no checkpoint to resume from, or an existing run would be overwritten.
    CheckpointError
        If the newest checkpoint is broken.
    """
    paths = checkpoint.steps(folder)
    if resume and paths:
        return checkpoint.read(paths[-1])
    records = metrics.read(folder / "metrics.jsonl")
    begun = any(record["step"] > 0 for record in records)
    if resume:
        raise ConfigError(
            f"output_dir = {str(folder)!r} has no checkpoint to resume from: it {_content(folder)}."
            " Without --resume a run begins"
            + (", in another folder or when that is moved away" if begun else "")
        )
    if paths or begun or (folder / "final").exists():
        way = (
            "resume it (--resume, in Python resume=True), or "
            if paths
            else "there is no checkpoint to resume from; "
        )
        raise ConfigError(
            f"output_dir = {str(folder)!r} holds a run already, it {_content(folder)};"
            f" {way}choose another folder, or move that away"
        )
    return None


def check(found: checkpoint.Checkpoint, config: Config, data: Dataset) -> None:
    """Raise ConfigError if the configuration or the data differ from those of the checkpoint.

    Parameters
    ----------
    found : Checkpoint
        The checkpoint to resume from.
    config : Config
        Resolved, with absolute paths.
    data : Dataset
        The data as they are now.

    Raises
    ------
    ConfigError
        If a field that matters or the data differ, or the checkpoint is beyond the last step.
    """
    path, free = found.model.parent, _FREE
    if config.lr_scheduler_type == "constant":
        free |= _ENDS
    for key in changed(config, _replaced(found.config, config), free):
        before, now = getattr(found.config, key), getattr(config, key)
        raise ConfigError(
            f"{key} = {now!r}, but {path} was trained with {before!r}; set it back, {_ANEW}"
        )
    for key, now in data.fingerprints.items():
        before, name = found.data.get(key), f"{key} = {getattr(config, key)!r}"
        if before is None or before == now:
            continue
        if key == "model":
            raise ConfigError(
                f"{name} has not the weights that {path} was started from, which are needed as the"
                f" reference or below adapters; load it anew, {_ANEW}"
            )
        what = f"{before.rows} rows then, {now.rows} now"
        if before.rows == now.rows:
            what = f"{now.rows} rows as then, but not the same"
        raise ConfigError(
            f"{name} changed since {path} was written: {what}; put back what it was, {_ANEW}"
        )
    if (total := data.steps(config)) < found.step:
        raise ConfigError(f"the run ends after step {total}, but {path} is beyond; raise max_steps")


def finished(folder: Path, found: checkpoint.Checkpoint, total: int) -> bool:
    """Return whether a checkpoint is of the last step and the final model matches it.

    Parameters
    ----------
    folder : Path
        The output folder.
    found : Checkpoint
        The newest checkpoint.
    total : int
        Steps of the run.

    Returns
    -------
    bool
    """
    if found.step < total or found.unrecorded is not None:
        return False
    return final.is_of(folder, found)


def _content(folder: Path) -> str:
    """Describe what a folder holds, and how far a run in it came."""
    if not folder.is_dir():
        return "is not there"
    names = sorted(p.name + "/" * p.is_dir() for p in folder.iterdir() if p.name[0] != ".")
    records = metrics.read(folder / "metrics.jsonl")
    steps = f" ({int(records[-1]['step'])} steps)" if records else ""
    shown = [name + steps if name == "metrics.jsonl" else name for name in names[:8]]
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return f"holds {', '.join(shown)}{more}" if shown else "is empty"


def _replaced(before: Config, now: Config) -> Config:
    """Replace paths that still mean the same place by those of the new configuration.

    Data are compared by fingerprint, so their paths are simply those of the new configuration.
    """
    same = {
        key: getattr(now, key)
        for key in _DATA
        if (getattr(now, key) is None) == (getattr(before, key) is None)
    }
    if parsed(before.sampler).kind == parsed(now.sampler).kind == "vllm":
        same["sampler"] = now.sampler  # another address
    if _stays(before.model, before.output_dir, now.model, now.output_dir):
        same["model"] = now.model
    for key in ("reward", "rollout", "sampler", "chat_template"):
        one, other = (_several(getattr(config, key)) for config in (before, now))
        if len(one) == len(other) and all(
            _stays(spec, before.output_dir, new, now.output_dir) or _moved(spec, new)
            for spec, new in zip(one, other, strict=True)
        ):
            same[key] = getattr(now, key)
    return replace(before, **same)


def _moved(before: str, now: str) -> bool:
    """Return whether the file of a function has moved: it is gone, and one of its name is given."""
    gone = not Path(before.rpartition(":")[0]).exists()
    return gone and Path(before).is_absolute() and Path(before).name == Path(now).name


def _several(specs: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (specs,) if isinstance(specs, str) else specs or ()


def _stays(before: str, home: str, now: str, home_now: str) -> bool:
    """Return whether two paths are the same, absolutely or relative to their runs' folders."""
    if before == now:
        return True
    if not (Path(before).is_absolute() and Path(now).is_absolute()):
        return False
    if os.path.realpath(before) == os.path.realpath(now):
        return True
    return os.path.relpath(before, home) == os.path.relpath(now, home_now)
