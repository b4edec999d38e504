"""The model at the end of a run: in the dtype that it came in, its adapters merged if asked."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gspo_rs.files import atomic
from gspo_rs.files.digested_json import seal, unseal
from gspo_rs.train.checkpoint import Checkpoint, digests
from gspo_rs.train.config.config import Config
from gspo_rs.train.inputs import Inputs
from gspo_rs.train.model.policy import Policy
from gspo_rs.train.model.pretrained import stored_dtype
from gspo_rs.train.model.sharded import copied

__all__ = ["STORED", "is_of", "stored_in", "write"]

STORED = "final/dtype"
"""An empty tensor of a checkpoint, whose dtype is that of the weights that the run began with."""

_MARK = ".final.json"
"""Which step `final/` is of, where its files are not those of a checkpoint."""


def stored_in(config: Config, inputs: Inputs, found: Checkpoint | None) -> torch.dtype:
    """Return the dtype that the model came in; it may be gone when a run goes on."""
    if found is not None and STORED in found.tensors:
        return found.tensors[STORED].dtype
    if inputs.model is not None:
        dtype: torch.dtype = inputs.model.dtype
        return dtype
    return stored_dtype(config.model)


def write(policy: Policy, config: Config, folder: Path, *, step: int, stored: torch.dtype) -> None:
    """Write ``final/``: the model, or its adapters, and the tokenizer.

    Parameters
    ----------
    policy : Policy
        Stays as it is.
    config : Config
        Tells whether adapters are merged.
    folder : Path
        The run's output folder.
    step : int
        How far the run is.
    stored : torch.dtype
        That the model came in. Adapters that are not merged stay float32.
    """
    merge = bool(config.lora_r) and config.lora_merge
    kinds = {p.dtype for p in policy.model.parameters() if p.is_floating_point()}
    same = not merge and (bool(config.lora_r) or kinds == {stored})
    weights = policy.weights()
    kept = None if same else stored
    policy.world.once(lambda: _write(policy, config, folder, step, stored=kept, weights=weights))


def _write(
    policy: Policy,
    config: Config,
    folder: Path,
    step: int,
    *,
    stored: torch.dtype | None,
    weights: dict[str, Tensor] | None,
) -> None:
    """Write the model as it is, or in the dtype `stored`."""
    merge = bool(config.lora_r) and config.lora_merge
    with atomic.directory(folder / "final") as partial:
        if stored is None:
            policy.save(partial, weights)
        else:
            # Merged in float32, and rounded once.
            model = _on_cpu(policy, torch.float32 if merge else stored, weights)
            model = model.merge_and_unload().to(stored) if merge else model
            model.save_pretrained(partial)
            policy.tokenizer.save_pretrained(partial)
    if stored is not None:
        mark = {"step": step, "digests": digests(folder / "final")}
        atomic.write_text(folder / _MARK, seal(mark))


def is_of(folder: Path, found: Checkpoint) -> bool:
    """Return whether ``final/`` is whole and was made of what a checkpoint holds.

    Parameters
    ----------
    folder : Path
        The run's output folder.
    found : Checkpoint
        Of its last step.
    """
    final = digests(folder / "final")
    if found.model_digests.items() <= final.items():
        return True
    try:
        mark = unseal((folder / _MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(mark == {"step": found.step, "digests": final})


def _on_cpu(policy: Policy, dtype: torch.dtype, weights: dict[str, Tensor] | None) -> Any:
    """Copy a model to the CPU with its weights in another dtype, as they are copied."""
    if weights is not None:
        assert policy.sharded is not None
        model = policy.sharded.skeleton()
        model.load_state_dict(
            {
                name: value.to(dtype) if value.is_floating_point() else value
                for name, value in weights.items()
            },
            assign=True,
        )
        return model
    return copied(policy.model, lambda old: _converted(old, dtype))


def _converted(old: Tensor, dtype: torch.dtype) -> Tensor:
    return old.to("cpu", dtype if old.is_floating_point() else old.dtype, copy=True)
