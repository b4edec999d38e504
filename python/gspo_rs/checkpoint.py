"""Checkpoints: everything a run needs to go on as if it had not stopped, and nothing pickled.

``checkpoint-<step>/`` holds the model as ``model/`` (loadable by itself), the optimizer's and the
random generators' tensors in ``state.safetensors``, and ``state.json`` with the step, the position
in the data, the configuration and a digest of every other file.
"""

import dataclasses
import hashlib
import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from gspo_rs import atomic
from gspo_rs.config import Config
from gspo_rs.runfile import from_dict

_FORMAT = 1


class CheckpointError(ValueError):
    """A checkpoint that cannot be resumed from; the message names it and the reason."""


@dataclass(frozen=True)
class Checkpoint:
    """What was read back from a checkpoint.

    Attributes
    ----------
    model : Path
        Folder of the model or of its adapter.
    step : int
        Optimizer steps taken.
    batches : int
        Batches of rollouts consumed, the position in the data.
    config : Config
        Of the run that wrote it.
    tensors : dict of str to Tensor
        Optimizer state (``optimizer/...``), random generators (``random/...``) and whatever else
        was given to `write`.
    python_random : list
        State of Python's generator.
    """

    model: Path
    step: int
    batches: int
    config: Config
    tensors: dict[str, Tensor]
    python_random: list[Any]


def write(
    folder: Path,
    save_model: Callable[[Path], None],
    tensors: dict[str, Tensor],
    *,
    step: int,
    batches: int,
    config: Config,
) -> Path:
    """Write ``checkpoint-<step>`` into `folder`, all of it or nothing, and prune older ones.

    Parameters
    ----------
    folder : Path
        The run's output folder.
    save_model : callable
        Writes the model into the folder it is given.
    tensors : dict of str to Tensor
        Optimizer state and the like; the random generators are added.
    step, batches : int
        How far the run is.
    config : Config
        Keeps its newest ``save_total_limit`` checkpoints.

    Returns
    -------
    Path
        The checkpoint.
    """
    target = folder / f"checkpoint-{step}"
    with atomic.directory(target) as partial:
        save_model(partial / "model")
        everything = {**tensors, **_random_tensors()}
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in everything.items()},
            partial / "state.safetensors",
        )
        state = {
            "format": _FORMAT,
            "step": step,
            "batches": batches,
            "config": dataclasses.asdict(config),
            "python_random": random.getstate(),
            "digests": _digests(partial),
        }
        (partial / "state.json").write_text(json.dumps(state), encoding="utf-8")
    for path in steps(folder)[: -config.save_total_limit]:
        atomic.remove(path)
    return target


def steps(folder: Path) -> list[Path]:
    """List the checkpoints in `folder`, oldest first.

    Parameters
    ----------
    folder : Path
        The run's output folder; may be absent.

    Returns
    -------
    list of Path
        Complete ones: an unfinished one never has the name.
    """
    numbered = {
        int(match[1]): path
        for path in folder.glob("checkpoint-*")
        if (match := re.fullmatch(r"checkpoint-(\d+)", path.name))
    }
    return [numbered[step] for step in sorted(numbered)]


def read(path: Path) -> Checkpoint:
    """Read a checkpoint and check that it is whole.

    Parameters
    ----------
    path : Path
        A ``checkpoint-<step>`` folder.

    Returns
    -------
    Checkpoint
        With tensors on the CPU.

    Raises
    ------
    CheckpointError
        If a file is missing, changed or cut short, or the folder is no checkpoint of this version.
    """
    try:
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not a checkpoint: state.json: {error}") from error
    if not isinstance(state, dict) or state.get("format") != _FORMAT:
        raise CheckpointError(f"{path} is not a checkpoint of this version of gspo_rs")
    found = _digests(path)
    for name, digest in state["digests"].items():
        if found.get(name) != digest:
            what = "changed or cut short" if name in found else "missing"
            raise CheckpointError(f"{path / name} is {what}; remove {path} to use an older one")
    return Checkpoint(
        model=path / "model",
        step=state["step"],
        batches=state["batches"],
        config=from_dict(state["config"], str(path / "state.json")),
        tensors=load_file(path / "state.safetensors"),
        python_random=state["python_random"],
    )


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: list[str]) -> dict[str, Tensor]:
    """Flatten an optimizer's state into named tensors.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Whose state holds tensors only, as AdamW's does.
    names : list of str
        Of its parameters, in their order.

    Returns
    -------
    dict of str to Tensor
        ``optimizer/<key>/<parameter>``; empty before the first step.
    """
    state = optimizer.state_dict()["state"]
    return {
        f"optimizer/{key}/{names[index]}": tensor
        for index, values in state.items()
        for key, tensor in values.items()
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, names: list[str], tensors: dict[str, Tensor]
) -> None:
    """Put the state that `optimizer_tensors` flattened back.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Over parameters of the same names and shapes.
    names : list of str
        Of its parameters, in their order.
    tensors : dict of str to Tensor
        Others than ``optimizer/...`` are ignored.

    Raises
    ------
    CheckpointError
        If the state is of other parameters.
    """
    index = {name: place for place, name in enumerate(names)}
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        kind, _, rest = name.partition("/")
        key, _, parameter = rest.partition("/")
        if kind != "optimizer":
            continue
        if parameter not in index:
            raise CheckpointError(f"the checkpoint has optimizer state of {parameter}, not trained")
        state.setdefault(index[parameter], {})[key] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def restore_random(checkpoint: Checkpoint) -> None:
    """Set Python's, NumPy's and torch's generators to where the checkpoint found them.

    Parameters
    ----------
    checkpoint : Checkpoint
        As `read` gave it.
    """
    version, internal, gauss = checkpoint.python_random
    random.setstate((version, tuple(internal), gauss))
    tensors = checkpoint.tensors
    position, has_gauss = tensors["random/numpy_position"].tolist()
    cached = float(tensors["random/numpy_gauss"])
    keys = tensors["random/numpy"].numpy().astype(np.uint32)
    # Reward functions of other people draw from the global generator, so it is theirs we restore.
    np.random.set_state(("MT19937", keys, position, has_gauss, cached))
    torch.set_rng_state(tensors["random/torch"])
    if "random/cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["random/cuda"])


def _random_tensors() -> dict[str, Tensor]:
    _, keys, position, has_gauss, cached = np.random.get_state()
    states = {
        "random/torch": torch.get_rng_state(),
        "random/numpy": torch.from_numpy(np.asarray(keys, dtype=np.int64)),
        "random/numpy_position": torch.tensor([position, has_gauss]),
        "random/numpy_gauss": torch.tensor(cached, dtype=torch.float64),
    }
    if torch.cuda.is_available():
        states["random/cuda"] = torch.cuda.get_rng_state()
    return states


def _digests(folder: Path) -> dict[str, str]:
    digests = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != "state.json":
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "blake2b").hexdigest()
            digests[path.relative_to(folder).as_posix()] = digest
    return digests
