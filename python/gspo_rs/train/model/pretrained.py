"""Pretrained models and tokenizers, loaded from a folder or the hub, or a one-line error."""

import os
import re
import textwrap
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi, constants, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils._validators import validate_repo_id
from peft import LoraConfig, PeftConfig, PeftModel
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.utils.peft_utils import find_adapter_config_file

# What a file holds that Git LFS has not fetched yet.
_POINTER = b"version https://git-lfs"
_SECONDS = 10
_FAILURES = (OSError, ValueError, KeyError, TypeError, ImportError, RuntimeError, SafetensorError)


class PolicyError(ValueError):
    """A model that cannot be trained here; the message names it and the reason."""


@dataclass(frozen=True)
class Pretrained:
    """What was loaded for a name.

    Attributes
    ----------
    model : transformers.PreTrainedModel
        Weights as asked for; of an adapter, its base.
    tokenizer : transformers.PreTrainedTokenizerBase
        Of the name, or else of the base.
    adapter : peft.LoraConfig or None
        Where the name is that of an adapter.
    """

    model: Any
    tokenizer: Any
    adapter: LoraConfig | None


def load_pretrained(
    name: str,
    attention: str | None = None,
    dtype: torch.dtype = torch.float32,
    *,
    empty: bool = False,
) -> Pretrained:
    """Load the model from a folder or from the hub.

    Parameters
    ----------
    name : str
        A folder that `save_pretrained` has written, whole or an adapter's; or a name of the hub.
    attention : str, optional
        Implementation of the attention.
    dtype : torch.dtype
        Of the weights.
    empty : bool
        Leave the weights out, on the meta device: another process sends them.

    Returns
    -------
    Pretrained

    Raises
    ------
    PolicyError
        If there is no such model, its files are broken or only pointers of Git LFS, a package is
        missing, it has no causal head, needs code of its own, or knows fewer tokens than its
        tokenizer. Says so in one line, and at once where no model can be.
    """
    refuse_absent(name)
    adapter = adapter_of(name)
    base = name if adapter is None else str(adapter.base_model_name_or_path)
    if adapter is not None:
        refuse_absent(base, f"the base model of {name!r}, ")
    own = adapter is None or (Path(name) / "tokenizer_config.json").is_file()
    options = {} if attention is None else {"attn_implementation": attention}
    options |= {"device_map": "meta"} if empty else {}
    try:
        tokenizer = AutoTokenizer.from_pretrained(name if own else base, trust_remote_code=False)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            base,
            dtype=dtype,
            trust_remote_code=False,
            output_loading_info=True,
            **options,
        )
    except _FAILURES as error:
        raise PolicyError(f"model {base!r}: {_reason(error)}") from error
    model, found = loaded
    if found["missing_keys"]:
        missing = ", ".join(sorted(found["missing_keys"])[:3])
        raise PolicyError(f"model {base!r} has no weights for {missing}; is it a causal LM?")
    refuse_unknown_tokens(model, tokenizer, repr(base))
    return Pretrained(model, tokenizer, adapter)


def held_in_memory(
    model: Any,
    tokenizer: Any,
    resumed: Path | None = None,
    dtype: torch.dtype = torch.float32,
) -> Pretrained:
    """Check a model in memory, which is trained in place.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        With weights in `dtype`.
    tokenizer : transformers.PreTrainedTokenizerBase or None
        Its own; needed, because a model does not tell which.
    resumed : Path, optional
        Folder of a checkpoint's model, whose weights it gets.
    dtype : torch.dtype
        That the run has its weights in.

    Returns
    -------
    Pretrained

    Raises
    ------
    PolicyError
        If it cannot be trained here, with the remedy.
    """
    name = type(model).__qualname__
    if isinstance(model, PeftModel) or any("lora_" in key for key, _ in model.named_parameters()):
        raise PolicyError(
            f"the {name} has adapters already; give the model without them, loaded anew, and lora_r"
        )
    if not isinstance(model, PreTrainedModel) or not model.can_generate():
        raise PolicyError(f"the {name} is no causal language model of transformers")
    if tokenizer is None:
        raise PolicyError(f"the {name} needs its tokenizer: train(…, model=…, tokenizer=…)")
    kinds = {str(value.dtype) for value in model.parameters() if value.is_floating_point()}
    if kinds != {str(dtype)}:
        wanted = str(dtype).removeprefix("torch.")
        cast = {"float32": "float"}.get(wanted, wanted)
        raise PolicyError(
            f"the {name} has weights in {', '.join(sorted(kinds))} and the run weights ="
            f" {wanted!r}: give model.{cast}(), or set the other `weights`"
        )
    refuse_unknown_tokens(model, tokenizer, f"the {name}")
    if resumed is not None:
        model.load_state_dict(load_pretrained(str(resumed), dtype=dtype).model.state_dict())
    return Pretrained(model, tokenizer, None)


def refuse_unknown_tokens(model: Any, tokenizer: Any, name: str) -> None:
    """Raise a PolicyError if the tokenizer has tokens that the model has not."""
    known = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > known:
        raise PolicyError(f"model {name} knows {known} tokens, its tokenizer {len(tokenizer)}")


def stored_dtype(name: str) -> torch.dtype:
    """Return the dtype of the weights of a model; of an adapter, those of its base.

    Parameters
    ----------
    name : str
        A model that `load_pretrained` loads.

    Returns
    -------
    torch.dtype
        That of its configuration; float32 where that says nothing.
    """
    adapter = adapter_of(name)
    base = name if adapter is None else str(adapter.base_model_name_or_path)
    config = AutoConfig.from_pretrained(base, trust_remote_code=False)
    found = config.dtype or config.get_text_config().dtype or torch.float32
    dtype: torch.dtype = getattr(torch, found) if isinstance(found, str) else found
    return dtype


def adapter_of(name: str) -> LoraConfig | None:
    """Return the configuration of the adapter `name`, or None for a full model.

    Raises
    ------
    PolicyError
        If the adapter is no LoRA.
    """
    try:
        if find_adapter_config_file(name) is None:
            return None
        found: Any = PeftConfig.from_pretrained(name)
    except _FAILURES as error:
        raise PolicyError(f"model {name!r}: {_reason(error)}") from error
    if not isinstance(found, LoraConfig):
        raise PolicyError(f"model {name!r} is an adapter of type {found.peft_type}, not LoRA")
    return found


def with_adapter(model: Any, name: str) -> Any:
    """Load a LoRA adapter onto its base model for further training.

    Raises
    ------
    PolicyError
        If its weights are broken or of another model.
    """
    try:
        with warnings.catch_warnings():  # of weights that are on the meta device, on purpose
            warnings.filterwarnings("ignore", ".*copying from a non-meta parameter", UserWarning)
            return PeftModel.from_pretrained(model, name, is_trainable=True).eval()
    except _FAILURES as error:
        raise PolicyError(f"adapter {name!r}: {_reason(error)}") from error


def refuse_absent(name: str, called: str = "") -> None:
    """Raise a PolicyError early if there can be no such model, before five hub requests.

    Parameters
    ----------
    name : str
        A folder, or a name of the hub.
    called : str
        What errors say before the name.
    """
    folder = Path(name)
    if folder.is_dir():
        _refuse_pointers(folder)
        if not any((folder / file).is_file() for file in ("config.json", "adapter_config.json")):
            found = ", ".join(sorted(path.name for path in folder.iterdir())[:5]) or "nothing"
            raise PolicyError(f"{called}model {name!r}: the folder has no config.json, but {found}")
        return
    if folder.is_file():
        raise PolicyError(f"{called}model {name!r} is a file; give the folder it is in")
    if re.match(r"[/~.\\]", name) or name.count("/") > 1 or not _may_be_on_hub(name):
        raise PolicyError(f"{called}model {name!r}: there is no such folder in {Path.cwd()}")
    cached = [try_to_load_from_cache(name, file) for file in ("config.json", "adapter_config.json")]
    is_cached = any(isinstance(path, str) for path in cached)
    try:
        HfApi().model_info(name, timeout=_SECONDS)
    except Exception as error:  # whatever it is, it is reported
        if is_cached:
            # What is in the cache is loaded without asking for each file of it, five times.
            constants.HF_HUB_OFFLINE = True
            return
        raise PolicyError(
            f"{called}model {name!r}: there is no such folder in {Path.cwd()}, and it could not"
            f" be loaded from the hub: {_reason(error)}"
        ) from error


def _may_be_on_hub(name: str) -> bool:
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def _refuse_pointers(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.stat().st_size < 1024:
            with path.open("rb") as file:
                start = file.read(len(_POINTER))
            if start == _POINTER:
                raise PolicyError(
                    f"{os.fspath(path)} is a pointer of Git LFS, not the file; run `git lfs pull`"
                )


def _reason(error: Exception) -> str:
    text = str(error).strip()
    if "trust_remote_code" in text:
        return "it needs code from its repository, which gspo_rs does not run"
    if "AutoModelForCausalLM" in text:
        return "no causal language-model head: " + text.split("\n", 1)[0]
    if isinstance(error, SafetensorError):
        return f"its weights are damaged: {text}"
    # A first line that ends in a colon says nothing without those that follow.
    line = textwrap.shorten(text, 300) if ":\n" in text else text.split("\n", 1)[0]
    return line or type(error).__name__
