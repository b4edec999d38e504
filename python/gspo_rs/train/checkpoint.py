"""Checkpoints: everything needed to resume a run as if it had not stopped, without pickle.

``checkpoint-<step>/`` holds the model as ``model/`` (loadable by itself), the optimizer's tensors
in ``optimizer-<number>.safetensors``, the random generators' and others in ``state.safetensors``,
and ``state.json`` with the step, the position in the data, the configuration, what the data are, a
digest of every other file and of itself.
"""

import dataclasses
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from gspo_rs.files import atomic
from gspo_rs.files.digested_json import seal, unseal
from gspo_rs.train.config.config import Config
from gspo_rs.train.config.keys import RENAMED
from gspo_rs.train.config.toml import from_dict
from gspo_rs.train.dataset import Fingerprint
from gspo_rs.train.model.sharded import cut_like
from gspo_rs.train.random_state import Generators

_FORMAT = 2


class CheckpointError(ValueError):
    """A checkpoint that cannot be resumed from; the message names it and the reason."""


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint.

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
        Optimizer state (``optimizer/...``) and whatever else was given to `write`.
    generators : Generators
        Where the random generators stood.
    data : dict of str to Fingerprint
        What the run learned from, by the field that names it.
    unrecorded : dict of str to float, or None
        Metrics of the last step, where the run stopped before it had written their line.
    model_digests : dict of str to str
        Of the files in `model`, by name.
    """

    model: Path
    step: int
    batches: int
    config: Config
    tensors: dict[str, Tensor]
    generators: Generators
    data: dict[str, Fingerprint] = field(default_factory=dict)
    unrecorded: dict[str, float] | None = None
    model_digests: dict[str, str] = field(default_factory=dict)


def write(
    folder: Path,
    save_model: Callable[[Path], None],
    tensors: dict[str, Tensor],
    *,
    optimizer: Iterable[dict[str, Tensor]] = (),
    step: int,
    batches: int,
    config: Config,
    generators: Generators | None = None,
    data: Mapping[str, Fingerprint] | None = None,
    unrecorded: Mapping[str, float] | None = None,
) -> Path:
    """Write ``checkpoint-<step>`` into `folder` atomically and delete the oldest ones.

    Parameters
    ----------
    folder : Path
        The run's output folder.
    save_model : callable
        Writes the model into the folder it is given.
    tensors : dict of str to Tensor
        The state besides; the random generators are added.
    optimizer : iterable of dict of str to Tensor
        From `optimizer_tensors`, in parts of which one is in memory at once, and a file each.
    step, batches : int
        How far the run is.
    config : Config
        Keeps its newest ``save_total_limit`` checkpoints.
    generators : Generators, optional
        Where the random generators stood at this place of the run; by default where they stand.
    data : mapping of str to Fingerprint, optional
        What the run learns from, by the field that names it.
    unrecorded : mapping of str to float, optional
        Metrics of the last step, if their line is not written.

    Returns
    -------
    Path
        The checkpoint.
    """
    target = folder / f"checkpoint-{step}"
    with atomic.directory(target) as partial:
        save_model(partial / "model")
        stood = generators or Generators.now()
        everything = {**tensors, **stood.tensors}
        _save(everything, partial / "state.safetensors")
        for number, part in enumerate(optimizer):
            _save(part, partial / f"optimizer-{number}.safetensors")
        state = {
            "format": _FORMAT,
            "step": step,
            "batches": batches,
            "config": dataclasses.asdict(config),
            "python_random": stood.python,
            "data": {name: dataclasses.asdict(what) for name, what in (data or {}).items()},
            "unrecorded": unrecorded,
            "digests": digests(partial),
        }
        (partial / "state.json").write_text(seal(state), encoding="utf-8")
    for path in steps(folder)[: -config.save_total_limit]:
        atomic.remove(path)
    return target


def _save(tensors: Mapping[str, Tensor], path: Path) -> None:
    save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, path)


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
    """Read a checkpoint and check that it is complete.

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
        state = unseal((path / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not a checkpoint: state.json: {error}") from error
    if state.get("format") != _FORMAT:
        raise CheckpointError(f"{path} is not a checkpoint of this version of gspo_rs")
    found = digests(path)
    for name, digest in state["digests"].items():
        if found.get(name) != digest:
            what = "changed or cut short" if name in found else "missing"
            raise CheckpointError(f"{path / name} is {what}; remove {path} to use an older one")
    tensors = load_file(path / "state.safetensors")
    for name in state["digests"]:
        if name.startswith("optimizer-"):
            tensors |= load_file(path / name)
    return Checkpoint(
        model=path / "model",
        step=state["step"],
        batches=state["batches"],
        config=from_dict(
            {RENAMED.get(key, key): value for key, value in state["config"].items()},
            str(path / "state.json"),
        ),
        tensors=tensors,
        generators=Generators(
            state["python_random"],
            {name: tensor for name, tensor in tensors.items() if name.startswith("random/")},
        ),
        data={name: Fingerprint(**what) for name, what in state["data"].items()},
        unrecorded=state["unrecorded"],
        model_digests={
            name.removeprefix("model/"): digest
            for name, digest in state["digests"].items()
            if name.startswith("model/")
        },
    )


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: list[str]) -> dict[str, Tensor]:
    """Flatten an optimizer's state into named tensors.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Whose state holds tensors and integers only, as that of AdamW does.
    names : list of str
        Of its parameters, in their order.

    Returns
    -------
    dict of str to Tensor
        ``optimizer/<key>/<parameter>``; empty before the first step.
    """
    state = optimizer.state_dict()["state"]
    return {
        # bitsandbytes counts steps in an int.
        f"optimizer/{key}/{names[index]}": torch.as_tensor(value)
        for index, values in state.items()
        for key, value in values.items()
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, names: list[str], tensors: dict[str, Tensor]
) -> None:
    """Load the state that `optimizer_tensors` flattened into an optimizer.

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
    every = (p for group in optimizer.param_groups for p in group["params"])
    parameters = dict(zip(names, every, strict=True))
    for name, tensor in tensors.items():
        kind, _, rest = name.partition("/")
        key, _, named = rest.partition("/")
        if kind != "optimizer":
            continue
        if named not in parameters:
            raise CheckpointError(f"the checkpoint has optimizer state of {named}, not trained")
        # Not by `load_state_dict`, which casts all of it to the dtype of the parameter.
        parameter = parameters[named]
        counted = tensor.dtype == torch.int64 and not tensor.ndim
        value = int(tensor) if counted else cut_like(tensor, parameter)
        optimizer.state[parameter][key] = value


def digests(folder: Path) -> dict[str, str]:
    """Return the digest of every file below a folder except ``state.json``, by relative path.

    Parameters
    ----------
    folder : Path
        May be absent.

    Returns
    -------
    dict of str to str
        Hexadecimal.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != "state.json":
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "blake2b").hexdigest()
            found[path.relative_to(folder).as_posix()] = digest
    return found
