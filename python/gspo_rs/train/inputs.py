"""What a run is given in memory: data, reward functions, a model and its tokenizer."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gspo_rs.data.source import SourceLike
from gspo_rs.rewards.functions import RewardFunction
from gspo_rs.rollouts.rollouts import Rollouts
from gspo_rs.samplers import Sampler
from gspo_rs.train.config.config import Config, ConfigError
from gspo_rs.train.config.typed import checked

__all__ = ["MEMORY", "NOTHING", "Inputs", "separate"]

# What a field of the configuration has where the thing itself is in memory, and its type.
MEMORY = "memory://"
_THINGS = ("model", "prompts", "rollouts", "eval_prompts", "rollout", "sampler")


@dataclass(frozen=True)
class Inputs:
    """Things in memory, which stand in place of the names that `Config` has for them.

    Attributes
    ----------
    prompts, rollouts, eval_prompts : SourceLike, optional
        Frames, tables, data sets or rows; `rollouts` may be batches of `Rollouts`.
    reward : callable or sequence of callable, optional
        Reward functions.
    rollout : callable, optional
        Rollout function.
    sampler : Sampler, optional
        Of the user's.
    model : transformers.PreTrainedModel, optional
        Trained in place.
    tokenizer : transformers.PreTrainedTokenizerBase, optional
        Of the model.
    """

    prompts: SourceLike | None = None
    rollouts: SourceLike | None = None
    eval_prompts: SourceLike | None = None
    reward: RewardFunction | Sequence[RewardFunction] | None = None
    rollout: Callable[..., Rollouts] | None = None
    sampler: Sampler | None = None
    model: Any = None
    tokenizer: Any = None

    @property
    def given(self) -> list[str]:
        """Names of the arguments that are needed again to go on."""
        return [name for name, thing in vars(self).items() if thing is not None]

    @property
    def streams(self) -> bool:
        """Whether `rollouts` are batches of `Rollouts`: an iterator, or a list of them.

        Examples
        --------
        >>> Inputs(rollouts=iter([])).streams, Inputs(rollouts=[{"prompt": "2+2="}]).streams
        (True, False)
        """
        held: Any = self.rollouts
        if isinstance(held, list | tuple):
            return bool(held) and isinstance(held[0], Rollouts)
        return isinstance(held, Iterator)

    def source(self, name: str, config: Config) -> Any:
        """Return the data of a field: what is in memory, or the paths in the configuration."""
        held = getattr(self, name)
        return getattr(config, name) if held is None else held

    def refuse_missing(self, config: Config) -> None:
        """Raise a ConfigError if something was in memory when `config` was made, and is not now."""
        for name in _THINGS:
            value = getattr(config, name)
            if str(value).startswith(MEMORY) and getattr(self, name) is None:
                raise ConfigError(
                    f"{name} = {value!r} was in memory; give it again, as train(…, {name}=…)"
                )


NOTHING = Inputs()


def separate(
    config: Config | None, things: Mapping[str, Any], fields: Mapping[str, Any]
) -> tuple[Config, Inputs]:
    """Separate what is in memory from what has a name, and put the names into the configuration.

    Parameters
    ----------
    config : Config or None
        None where `things` and `fields` say everything.
    things : mapping
        Fields of `Inputs`; a path or name of the hub is one for `Config`.
    fields : mapping
        Further fields of `Config`; they replace those of `config`.

    Returns
    -------
    config : Config
        Not yet resolved.
    inputs : Inputs

    Raises
    ------
    ConfigError
        If there is no model, or a value has another type than its field.
    TypeError
        If a field is not known; names the one that may be meant.

    Examples
    --------
    >>> rows = [{"prompt": "2+2="}]
    >>> config, inputs = separate(None, {"model": "gpt2", "prompts": rows}, {"seed": 7})
    >>> config.model, config.prompts, config.seed, inputs.prompts
    ('gpt2', 'memory://list', 7, [{'prompt': '2+2='}])
    """
    held = {name: thing for name, thing in things.items() if thing is not None}
    names = {name: _named(held.pop(name)) for name in list(held) if _is_name(held[name])}
    known = Config.__dataclass_fields__
    values = {
        # An unknown one is refused by Config, in the words of Python.
        name: checked(name, value, "train()") if name in known else value
        for name, value in {**fields, **names}.items()
    }
    values |= {name: _placeholder(held[name]) for name in _THINGS if name in held}
    if config is not None:
        return dataclasses.replace(config, **values), Inputs(**held)
    if "model" not in values:
        raise ConfigError(
            "no model is given; give a Config, or model=… with prompts=… and reward=…, or with"
            " rollouts=…"
        )
    return Config(**values), Inputs(**held)


def _is_name(thing: Any) -> bool:
    """Return whether a thing is a name or path, or a list of these."""
    several = thing if isinstance(thing, list | tuple) else [thing]
    return bool(several) and all(isinstance(item, str | os.PathLike) for item in several)


def _named(thing: Any) -> Any:
    return tuple(map(os.fspath, thing)) if isinstance(thing, list | tuple) else os.fspath(thing)


def _placeholder(thing: Any) -> str:
    library = type(thing).__module__.partition(".")[0]
    return MEMORY + (f"{library}." if library != "builtins" else "") + type(thing).__qualname__
