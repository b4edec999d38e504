"""The weights of a policy as a folder that any server loads: adapters merged into their base."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import Tensor

from gspo_rs.samplers import Policy, SamplerError

__all__ = ["adapter_rank", "checkpoint_weights", "merged_weights", "save_merged"]

_ADAPTER = re.compile(r"\.lora_|\.modules_to_save\.|lora_magnitude")
_PREFIX = "base_model.model."


def save_merged(policy: Policy, folder: Path, weights: dict[str, Tensor] | None) -> None:
    """Write the model of a policy, for `from_pretrained`.

    Parameters
    ----------
    policy : Policy
        With adapters, or without.
    folder : Path
        Made where it is not there.
    weights : dict of str to Tensor or None
        All of them where they are cut over processes; None where the model has them.

    Raises
    ------
    SamplerError
        If it has adapters of a kind whose sum is not known here.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not hasattr(policy.model, "get_base_model"):
        policy.save(folder, weights)
        return
    state = policy.model.state_dict() if weights is None else weights
    base = policy.model.get_base_model()
    base.save_pretrained(folder, state_dict=merged_weights(policy.model, state))
    policy.tokenizer.save_pretrained(folder)


def checkpoint_weights(policy: Policy, weights: dict[str, Tensor] | None) -> dict[str, Tensor]:
    """Return what `save_merged` writes, by the names that it has in the files.

    Parameters
    ----------
    policy, weights
        As for `save_merged`.
    """
    from transformers.core_model_loading import revert_weight_conversion
    from transformers.modeling_utils import remove_tied_weights_from_state_dict

    model = policy.model
    state = model.state_dict() if weights is None else weights
    if hasattr(model, "get_base_model"):
        state, model = merged_weights(model, state), model.get_base_model()
    state = remove_tied_weights_from_state_dict(dict(state), model)
    found: dict[str, Tensor] = revert_weight_conversion(model, state)
    return found


def adapter_rank(model: Any) -> int | None:
    """Return the largest rank of the adapters of a model; None if it has none.

    Raises
    ------
    SamplerError
        If they are of a kind that a server does not take.
    """
    if not hasattr(model, "get_base_model"):
        return None
    _refuse_others(name for name, _ in model.named_parameters())
    ranks = (getattr(layer, "r", None) for layer in model.modules())
    return max(int(one["default"]) for one in ranks if isinstance(one, dict) and "default" in one)


def _refuse_others(names: Iterable[str]) -> None:
    if any("lora_magnitude" in name or ".modules_to_save." in name for name in names):
        raise SamplerError(
            "a vLLM server cannot be given these adapters: it takes plain LoRA alone; set use_dora"
            " = false, or sampler = 'transformers'"
        )


def merged_weights(model: Any, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a model's base with its adapters added; the model stays as it is.

    Parameters
    ----------
    model : peft.PeftModel
        With adapters of LoRA.
    state : dict of str to Tensor
        Its weights.

    Returns
    -------
    dict of str to Tensor
        By the names of the base.
    """
    _refuse_others(state)
    scaling = _scalings(model)
    found = {}
    for name, weight in state.items():
        if _ADAPTER.search(name):
            continue
        layer, is_base, rest = name.partition(".base_layer.")
        short = f"{layer}.{rest}" if is_base else name
        if is_base and rest == "weight" and f"{layer}.lora_A.default.weight" in state:
            one, other = (state[f"{layer}.lora_{side}.default.weight"] for side in "AB")
            scale, turned = scaling[layer]
            added = (other.float() @ one.float()) * scale
            weight = weight + (added.T if turned else added).to(weight.dtype).to(weight.device)
        found[short.removeprefix(_PREFIX)] = weight.detach()
    return found


def _scalings(model: Any) -> dict[str, tuple[float, bool]]:
    """Return of each adapted layer the factor of its adapter, and whether it is transposed."""
    return {
        name: (float(layer.scaling["default"]), bool(getattr(layer, "fan_in_fan_out", False)))
        for name, layer in model.named_modules()
        if isinstance(getattr(layer, "scaling", None), dict) and "default" in layer.scaling
    }
