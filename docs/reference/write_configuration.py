"""Write configuration.md, from_trl.md and from_verl.md from the code.

Usage: ``python docs/reference/write_configuration.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from other_names import TRL, TRL_BESIDES, VERL

from gspo_rs.train.config.config import Config, resolve
from gspo_rs.train.config.presets import OPTIONS, PRESETS
from gspo_rs.train.config.printed import as_toml
from gspo_rs.train.config.sections import SECTIONS, default_of, documented
from gspo_rs.train.config.typed import choices, types_of

HEAD = """# Configuration

Written from `gspo_rs.train.Config` by `python docs/reference/write_configuration.py`.

Every field is an option of `gspo-rs train` (`max_steps` is `--max-steps`), a key of a run file in
TOML or YAML, and an argument of `Config` and of `train` in Python. Options win over the file.
`gspo-rs train … --print-config` prints all fields with their values, and where each is from, as a
run file; `gspo-rs train --help-all` says what is below. The words of TRL and of verl are in the
last columns; [from TRL](from_trl.md) and [from verl](from_verl.md) say where they mean something
else.
"""
PRESETS_HEAD = """## Presets

What `algorithm` sets; every field of it can be set by itself. [The losses](losses.md) has the
formulas and where they are from.

| algorithm | advantage | loss | reduction | options |
|---|---|---|---|---|
"""
LOSSES_HEAD = """## Options of each loss

With their defaults. A `loss` that takes the place of the preset's brings its own.

| loss | options |
|---|---|
"""
FROM_TRL = """# From TRL

Written from the code by `python docs/reference/write_configuration.py`. To use the advantages and
losses inside of TRL's own trainer, see [TRL](../integrations/trl.md); here are the names of
`gspo-rs train` for those of `GRPOConfig`, `GRPOTrainer` and `ModelConfig`. An option with TRL's
name, `--epsilon 0.2` or `--lora_rank 8`, is answered with ours.

<!-- not run: the same in two libraries, of which one cannot be assumed -->
```python
config = GRPOConfig(max_steps=10)
GRPOTrainer(model, reward_funcs=score, args=config, train_dataset=dataset).train()  # TRL
gs.train(model=model, tokenizer=tokenizer, prompts=dataset, reward=score, max_steps=10)  # here
```

Reward functions are the same, `f(prompts, completions, **columns) -> list[float | None]`, with
`completion_ids`, `trainer_state`, `log_metric` and `log_extra` where they ask for them; what
they see of a completion is in [tokens](../guides/tokens.md#what-a-reward-function-sees).
"""
FROM_VERL = """# From verl

Written from the code by `python docs/reference/write_configuration.py`. For estimators and losses
inside of verl, and for its data, see [verl](../integrations/verl.md); here are the names of
`gspo-rs train` for the keys of verl's configuration. verl counts its steps in batches of
rollouts, `gspo-rs` in optimizer steps.

| verl | here | what differs |
|---|---|---|
"""


def configuration() -> str:
    """Return the reference of all fields."""
    tables = ["\n", PRESETS_HEAD, *_presets(), "\n", LOSSES_HEAD, *_losses()]
    return "".join([HEAD, *_sections(), *tables])


def from_trl() -> str:
    """Return the map of TRL's names."""
    same = [name for name, (theirs, differs) in TRL.items() if theirs == name and not differs]
    like = [(n, n, differs) for n, (theirs, differs) in TRL.items() if theirs == n and differs]
    others = [(t, n, d) for n, (t, d) in TRL.items() if t not in (n, "-")]
    ours = [(n, d) for n, (theirs, d) in TRL.items() if theirs == "-"]
    parts = [
        FROM_TRL,
        f"\n## The same\n\n{len(same)} names with one meaning and default: {_wrapped(same)}.\n",
        "\n## The same name, and a difference\n\n| name | what differs |\n|---|---|\n",
        *(f"| `{name}` | {differs} |\n" for _, name, differs in like),
        "\n## Another name\n\n| TRL | here | why, and what differs |\n|---|---|---|\n",
        *(f"| `{theirs}` | `{name}` | {differs} |\n" for theirs, name, differs in others),
        "\n## Only in TRL\n\n| TRL | here |\n|---|---|\n",
        *(f"| `{name}` | {remedy} |\n" for name, remedy in TRL_BESIDES.items()),
        "\n## Only here\n\n| name | why |\n|---|---|\n",
        *(f"| `{name}` | {why} |\n" for name, why in ours),
    ]
    return "".join(parts)


def from_verl() -> str:
    """Return the map of verl's names."""
    named = [(t, name, differs) for name, (t, differs) in VERL.items() if t != "-"]
    rows = [f"| `{theirs}` | `{name}` | {differs} |\n" for theirs, name, differs in sorted(named)]
    alone = [name for name, (theirs, _) in VERL.items() if theirs == "-"]
    return "".join([FROM_VERL, *rows, f"\nOnly here: {_wrapped(alone)}.\n"])


def _sections() -> Iterator[str]:
    for title, names in SECTIONS.items():
        yield f"\n## {title}\n\n| field | type | default | meaning | TRL | verl |\n"
        yield "|---|---|---|---|---|---|\n"
        for name in names:
            cells = (
                f"`{name}`",
                _type(types_of()[name]),
                _default(name),
                documented()[name].replace("|", "\\|"),
                _name_of(name, TRL),
                _name_of(name, VERL),
            )
            yield f"| {' | '.join(cells)} |\n"


def _presets() -> Iterator[str]:
    for name, preset in PRESETS.items():
        config = resolve(Config(model="m", rollouts="r", algorithm=name))
        options = {key: getattr(config, key) for key in OPTIONS[preset.loss]}
        options = {key: value for key, value in options.items() if value is not None}
        options |= {"advantage_options": config.advantage_options}
        options |= {"beta": config.beta, **preset.besides}
        options = {key: value for key, value in options.items() if value}
        cells = (name, str(config.advantage), str(config.loss), config.reduction or "over groups")
        shown = ", ".join(f"`{key} = {as_toml(value)}`" for key, value in options.items())
        yield f"| {' | '.join(cells)} | {shown} |\n"


def _losses() -> Iterator[str]:
    for loss, options in OPTIONS.items():
        shown = ", ".join(
            f"`{key}`" if value is None else f"`{key} = {as_toml(value)}`"
            for key, value in options.items()
        )
        yield f"| {loss} | {shown or 'none'} |\n"


def _type(hint: Any) -> str:
    names = []
    for kind in choices(hint):
        if get_origin(kind) is Literal:
            names.append(", ".join(map(str, get_args(kind))))
        elif get_origin(kind) is tuple:
            names.append(f"list of {get_args(kind)[0].__name__}")
        elif kind is not type(None):
            names.append("table" if get_origin(kind) is dict else kind.__name__)
    return " or ".join(names)


def _default(name: str) -> str:
    if name == "model":
        return "needed"
    value = default_of(name)
    return "" if value is None else f"`{as_toml(value)}`"


def _name_of(name: str, table: Mapping[str, tuple[str, str]]) -> str:
    theirs = table[name][0]
    return "" if theirs == "-" else f"`{theirs.removeprefix('actor_rollout_ref.')}`"


def _wrapped(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


PAGES = {"configuration.md": configuration, "from_trl.md": from_trl, "from_verl.md": from_verl}

if __name__ == "__main__":
    for file, page in PAGES.items():
        Path(__file__).with_name(file).write_text(page(), encoding="utf-8")
