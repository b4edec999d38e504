"""The policy: the model in training, its tokenizer, and the starting policy as reference."""

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor

from gspo_rs.logprobs import model_logprobs, model_one_pass
from gspo_rs.logprobs.fused import Loss
from gspo_rs.samplers.generation import context_of
from gspo_rs.train.config.config import Config
from gspo_rs.train.inputs import NOTHING, Inputs
from gspo_rs.train.model.chat_template import with_template
from gspo_rs.train.model.device import device_of
from gspo_rs.train.model.layers import (
    ActivationsError,
    compile_layers,
    recompute_activations,
    recomputes,
)
from gspo_rs.train.model.microbatch import MicroBatch, Shape
from gspo_rs.train.model.narrow import freeze_narrow, narrowed
from gspo_rs.train.model.narrow_heads import narrow_heads
from gspo_rs.train.model.pretrained import (
    PolicyError,
    Pretrained,
    adapter_of,
    held_in_memory,
    load_pretrained,
    refuse_unknown_tokens,
    stored_dtype,
    with_adapter,
)
from gspo_rs.train.model.probe import mixes_packed, sees_ahead
from gspo_rs.train.model.sharded import Sharded, collected, shard
from gspo_rs.train.world import ALONE, World

__all__ = ["Policy", "PolicyError", "freeze", "load", "needs_copy", "starting"]

_log = logging.getLogger("gspo_rs")
_ALL = ("all-linear",)
LARGE = 10**9
"""Parameters from which on activations are recomputed by default."""
_WEIGHTS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Policy:
    """A causal language model ready for training, and how to run it.

    Attributes
    ----------
    model : transformers.PreTrainedModel or peft.PeftModel
        In eval mode: dropout would make a ratio compare unlike with unlike.
    tokenizer : transformers.PreTrainedTokenizerBase
        With the chat template of the run. May lack a pad token.
    device : torch.device
        Of the model.
    autocast : torch.dtype or None
        Precision of the computation where it is not float32.
    shape : {"packed", "padded"}
        Layout of micro-batches.
    context : int or None
        Most tokens of a sequence; None where the model has no limit.
    temperature : float
        Logits are divided by it.
    world : World
        The processes that train it together.
    sharded : Sharded or None
        Runs the model where its weights are cut over them; None where they are whole.
    chunk_size : int or None
        Most tokens whose logits are there at once; None for the default of the device.
    """

    model: Any
    tokenizer: Any
    device: torch.device
    autocast: torch.dtype | None
    shape: Shape
    context: int | None
    temperature: float
    world: World = ALONE
    sharded: Sharded | None = None
    chunk_size: int | None = None

    def computing(self) -> AbstractContextManager[Any]:
        """Run the model in the policy's precision."""
        if self.autocast is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.autocast)

    def logprobs(self, batch: MicroBatch) -> Tensor:
        """Return the log-probability of each sampled token, (n_tokens,), with gradient."""
        found: Tensor = self._read(model_logprobs, batch)
        return found

    def one_pass(
        self, batch: MicroBatch, loss: Loss, lengths: list[int] | None, near: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return 0 with the gradient of a loss, and `logprobs` with their entropies, detached.

        See `gspo_rs.logprobs.fused.one_pass` for `loss`, `lengths` and `near`.
        """
        found: tuple[Tensor, Tensor, Tensor] = self._read(
            model_one_pass, batch, loss=loss, lengths=lengths, near=near
        )
        return found

    @property
    def sampling_dtype(self) -> torch.dtype | None:
        """In which float32 weights are held while they sample, on a GPU; None where they stay."""
        return self.autocast if self.device.type == "cuda" and self.world.size == 1 else None

    def sampling(self, function: Callable[[Any], Any]) -> Any:
        """Return ``function(model)``, which may pass through the model as often as it likes.

        Without gradient. With `sharded` on every rank at once: each gets all weights before.
        """
        if self.sampling_dtype is not None:  # so that keys and values are in it, too
            with narrowed(self.model, self.sampling_dtype):
                return function(self.model)
        with self.computing():
            if self.sharded is None:
                return function(self.model)
            with self.sharded.unsharded(), torch.no_grad():
                return self.sharded(function)

    def _read(self, function: Callable[..., Any], batch: MicroBatch, **more: Any) -> Any:
        """Pass a micro-batch through the model."""
        given = {**self._asked(batch), **more}
        with self.computing(), self._attending():
            return self.read(function, batch.input_ids, **given)

    def _attending(self) -> AbstractContextManager[Any]:
        """Attend to narrow heads in our way, but where a pass is cut or taken again."""
        if self.sharded is not None or recomputes(self.model):
            return contextlib.nullcontext()
        return narrow_heads(self.model)

    def read(self, function: Callable[..., Any], *given: Any, **named: Any) -> Any:
        """Return ``function(model, *given, **named)``, one pass; with `sharded` on all ranks."""
        if self.sharded is None:
            return function(self.model, *given, **named)
        return self.sharded.read(function, *given, **named)

    def _asked(self, batch: MicroBatch) -> dict[str, Any]:
        return {
            "positions": batch.positions,
            "targets": batch.targets,
            "position_ids": batch.position_ids,
            "temperature": self.temperature,
            "chunk_size": self.chunk_size,
        }

    def trainable(self) -> dict[str, torch.nn.Parameter]:
        """Return the trained parameters by name: all, or those of the adapters."""
        named = self.model.named_parameters()
        return {name: parameter for name, parameter in named if parameter.requires_grad}

    def weights(self) -> dict[str, Tensor] | None:
        """Return all weights as `save` needs them where they are cut; on rank 0, others have none.

        All ranks have to ask.
        """
        if self.sharded is None:
            return None
        return collected(self.model.state_dict(), keep=self.world.main)

    def save(self, folder: Path, weights: dict[str, Tensor] | None = None) -> None:
        """Write model (or adapter) and tokenizer so that `from_pretrained` reads them."""
        self.model.save_pretrained(folder, **({} if weights is None else {"state_dict": weights}))
        self.tokenizer.save_pretrained(folder)


def load(
    config: Config,
    resumed: Path | None = None,
    inputs: Inputs = NOTHING,
    world: World = ALONE,
) -> Policy:
    """Load the policy of a run.

    Parameters
    ----------
    config : Config
        Names the model, adapters, precision, device and layout.
    resumed : Path, optional
        Folder of a checkpoint's model or adapter, in place of the starting weights.
    inputs : Inputs, optional
        May have the model and the tokenizer, or the tokenizer alone.
    world : World
        The processes that are to train it together.

    Returns
    -------
    Policy
        Ready for the first step; with several processes, to be `shared` before.

    Raises
    ------
    PolicyError
        If the model is absent, has no causal head, turns the head's output into logits in a way
        that is not known here, needs code of its own or more than tokens, is not causal, or does
        not know every token of its tokenizer; if `layout` is packed and it mixes packed sequences.
    ConfigError
        If there is no such chat template, or it does not read `chat_template_kwargs`.
    """
    device = device_of(config.device)
    found = _found(config, resumed if config.lora_r == 0 else None, inputs, empty=not world.main)
    model = _merged(found, config)
    policy = Policy(
        # One that is to be cut need not fit on the device.
        model=(model.to(device) if world.size == 1 else model).eval(),
        tokenizer=with_template(found.tokenizer, config.chat_template, config.chat_template_kwargs),
        device=device,
        autocast=_autocast(config, device),
        shape="padded",
        context=context_of(model),
        temperature=config.temperature,
        chunk_size=config.logits_chunk_size,
        world=world,
    )
    if world.size == 1:
        policy = _checked(policy, config)
    if config.lora_r > 0:
        model = _adapted(dataclasses.replace(found, model=policy.model), config, resumed)
        if policy.autocast and may_round_frozen(config, inputs, device):
            freeze_narrow(model, policy.autocast)
        policy = dataclasses.replace(policy, model=model)
    if world.size == 1 and not fits_itself(config, device):
        _recompute(policy, config)
    if config.torch_compile:
        compile_layers(model)
    return policy


def shared(policy: Policy, config: Config) -> Policy:
    """Cut the weights of a policy over the processes of its world, in place; for one, nothing.

    Parameters
    ----------
    policy : Policy
        From `load`, without an optimizer over its weights.
    config : Config
        Tells layout, replicas and whether activations are recomputed.

    Returns
    -------
    Policy
        With the weights of rank 0; what `load` checks of one process is checked of it here.

    Raises
    ------
    WorldError
        If a model in memory has other weights than that of rank 0.
    PolicyError
        As `load`.
    """
    if policy.world.size == 1:
        return policy
    if not policy.world.any(any(weight.is_meta for weight in policy.model.parameters())):
        weights = [float(weight.detach().double().sum()) for weight in policy.model.parameters()]
        policy.world.agree(**{"the weights": repr(weights)})
    cut = shard(policy.model, policy.autocast, policy.device, config.replicas)
    policy = _checked(dataclasses.replace(policy, sharded=cut), config)
    if not fits_itself(config, policy.device):
        _recompute(policy, config)
    return policy


def _checked(policy: Policy, config: Config) -> Policy:
    """Return a policy with the layout of its micro-batches; raise a PolicyError as `load` does."""
    try:
        ahead, shape = sees_ahead(policy), _shape(config, policy)
    except ValueError as error:
        raise PolicyError(f"model {config.model!r}: {error}") from error
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, LookupError, RuntimeError, TypeError) as error:
        if policy.world.size > 1 and isinstance(error, RuntimeError):
            raise  # it may be that of another process
        reason = f"{type(error).__name__}: {error}"
        raise PolicyError(
            f"model {config.model!r}: its {type(policy.model).__name__} does not read a row of"
            f" tokens, which is all it gets here: {reason}"
        ) from error
    if ahead:
        raise PolicyError(f"model {config.model!r} is not causal: its tokens see those that follow")
    return dataclasses.replace(policy, shape=shape)


@contextmanager
def starting(
    policy: Policy, config: Config, frozen: Policy | None, *, moved: bool = True
) -> Iterator[Policy]:
    """Yield the starting policy: the frozen copy, or the model with its adapters disabled.

    Parameters
    ----------
    policy : Policy
        The one that is trained.
    config : Config
        Tells whether it has adapters.
    frozen : Policy or None
        From `freeze`.
    moved : bool
        Whether the policy has taken a step, or may have; before it, it is the starting one.

    Yields
    ------
    Policy
        To be used without gradient.
    """
    if frozen is not None:
        yield frozen
    elif not moved:
        yield policy
    else:
        assert config.lora_r > 0
        with policy.model.disable_adapter():
            yield policy


def freeze(config: Config, inputs: Inputs = NOTHING, world: World = ALONE) -> Policy | None:
    """Load a copy of the starting policy; None if adapters can be disabled instead.

    Parameters
    ----------
    config : Config
        Of the run.
    inputs : Inputs, optional
        May have the model, which becomes the starting policy: give a copy.
    world : World
        The processes that are to read it together.

    Returns
    -------
    Policy or None
        Whose weights take no gradient.
    """
    if not needs_copy(config, inputs):
        return None
    policy = load(config, inputs=inputs, world=world)
    policy.model.requires_grad_(False)
    return shared(policy, config)


def needs_copy(config: Config, inputs: Inputs = NOTHING) -> bool:
    """Return whether `freeze` loads a second model: adapters that begin with the run need none."""
    return config.lora_r == 0 or (inputs.model is None and adapter_of(config.model) is not None)


def _found(config: Config, resumed: Path | None, inputs: Inputs, *, empty: bool) -> Pretrained:
    """Return the model and tokenizer to start from, or those of a checkpoint.

    A model that is `empty` has no weights, unless it is in memory.
    """
    if inputs.model is not None:
        if config.attn_implementation is not None:
            raise PolicyError("attn_implementation is that of the model given; leave it out")
        return held_in_memory(inputs.model, inputs.tokenizer, resumed, _WEIGHTS[config.weights])
    found = load_pretrained(
        str(resumed or config.model),
        config.attn_implementation,
        _WEIGHTS[config.weights],
        empty=empty,
    )
    if inputs.tokenizer is None:
        return found
    refuse_unknown_tokens(found.model, inputs.tokenizer, repr(config.model))
    return dataclasses.replace(found, tokenizer=inputs.tokenizer)


def _autocast(config: Config, device: torch.device) -> torch.dtype | None:
    if config.weights == "bfloat16":
        return torch.bfloat16
    if config.dtype == "auto":
        # Of the current GPU, which is that of the run. Some emulate it, more slowly than float32.
        capable = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if capable else None
    return torch.bfloat16 if config.dtype == "bfloat16" else None


def _merged(found: Pretrained, config: Config) -> Any:
    """Return the model to train or to add adapters to."""
    if found.adapter is None or config.lora_r > 0:
        return found.model
    _log.info("the adapter %s is merged into its base; all weights are trained", config.model)
    return with_adapter(found.model, config.model).merge_and_unload().requires_grad_(True)


def _adapted(found: Pretrained, config: Config, resumed: Path | None) -> Any:
    """Return the model with the adapter to train: a checkpoint's, its own, or a new one."""
    model, own = found.model, found.adapter
    if own is not None:
        _refuse_other(own, config)
    if resumed is not None or own is not None:
        return with_adapter(model, str(resumed or config.model))
    targets = config.lora_target_modules
    adapter = LoraConfig(
        r=config.lora_r,
        lora_alpha=config.lora_alpha,
        target_modules="all-linear" if targets == _ALL else list(targets),
        use_dora=config.use_dora,
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, adapter).eval()


def _refuse_other(own: LoraConfig, config: Config) -> None:
    """Raise a PolicyError if the run has other adapters than the one it is to go on with."""
    if (own.r, own.lora_alpha) != (config.lora_r, config.lora_alpha):
        raise PolicyError(
            f"model {config.model!r} is an adapter with lora_r = {own.r} and lora_alpha ="
            f" {own.lora_alpha}, the run has lora_r = {config.lora_r} and lora_alpha ="
            f" {config.lora_alpha}; give its own to train it further, or lora_r = 0 to merge it"
        )
    if bool(own.use_dora) != config.use_dora:
        raise PolicyError(
            f"model {config.model!r} is an adapter with use_dora = {bool(own.use_dora)}, the run"
            f" has use_dora = {config.use_dora}; give its own to train it further"
        )
    targets = own.target_modules if isinstance(own.target_modules, str) else None
    named = {targets} if targets else set(own.target_modules or ())
    if config.lora_target_modules != _ALL and named != set(config.lora_target_modules):
        raise PolicyError(
            f"model {config.model!r} is an adapter of {', '.join(sorted(named))}, the run has"
            f" lora_target_modules = {list(config.lora_target_modules)}; leave that out to train"
            " the adapter further"
        )


def may_round_frozen(config: Config, inputs: Inputs, device: torch.device) -> bool:
    """Return whether frozen float32 weights are not needed but for products below autocast.

    A model in memory is the user's, DoRA reads the weights themselves, and merged into them the
    adapters are written in the precision that the weights came in.
    """
    if device.type != "cuda" or inputs.model is not None or config.use_dora:
        return False
    return not config.lora_merge or stored_dtype(config.model) == torch.bfloat16


def fits_itself(config: Config, device: torch.device) -> bool:
    """Return whether memory decides, after loading, if activations are recomputed."""
    return config.gradient_checkpointing is None and device.type == "cuda"


def _recompute(policy: Policy, config: Config) -> None:
    """Let the layers recompute their activations, where it is asked for or the model is large."""
    asked, model = config.gradient_checkpointing, policy.model
    if asked is False or (asked is None and sum(p.numel() for p in model.parameters()) < LARGE):
        return
    try:
        recompute_activations(model, policy.read)
    except ActivationsError as error:
        if asked:
            raise
        _log.info("%s; its activations are kept", error)


def _shape(config: Config, policy: Policy) -> Shape:
    """Choose the layout of micro-batches.

    A mask over one long row costs the square of its length with SDPA and eager attention: on two
    CPU cores, 128 sequences of 30 to 80 tokens took 0.26 s padded by length and 2.0 s packed.
    """
    attention = str(getattr(policy.model.config, "_attn_implementation", ""))
    if config.layout == "padded" or (config.layout == "auto" and "flash" not in attention):
        return "padded"
    if not mixes_packed(policy):
        return "packed"
    if config.layout == "auto":
        return "padded"
    raise PolicyError(
        f"layout 'packed': model {config.model!r} lets packed sequences see one another"
        f" with {attention or 'its'} attention; use layout = 'padded'"
    )
