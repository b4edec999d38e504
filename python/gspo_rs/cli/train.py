"""`gspo-rs train`: a training run from options, a file, or both."""

import json
import math
import sys
import time
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from gspo_rs.cli import logs
from gspo_rs.cli.errors import command, interrupted
from gspo_rs.cli.exits import refuse_exits
from gspo_rs.cli.parameters import Json
from gspo_rs.cli.terminal import printable
from gspo_rs.cli.train_options import given, respelled, show_all, with_options
from gspo_rs.cli.typed import typed
from gspo_rs.train import torchrun

Flag = Annotated[bool, Parameter(negative="", show_default=False)]


@command("stopped")
@with_options
def train(
    file: Path | None = None,
    /,
    *,
    resume: Annotated[bool, Parameter(show_default=False)] = False,
    dry_run: Flag = False,
    quiet: Flag = False,
    json_: Json = False,
    print_config: Flag = False,
    help_all: Flag = False,
    set_: Annotated[
        list[str] | None, Parameter(name="--set", consume_multiple=True, show=False, negative="")
    ] = None,
    **fields: Any,
) -> str | tuple[str, int]:
    """Train a causal language model, online or from scored completions.

    Parameters
    ----------
    file
        TOML or YAML file with the fields of `gspo_rs.train.Config`. Options win over it.
    resume
        Resume from the newest checkpoint in the output folder.
    dry_run
        Read and check everything, load the model, make one batch, estimate the memory; write
        nothing.
    quiet
        Print nothing but the last line: no steps while it trains, and no summary.
    print_config
        Print all settings, and where each is from, as a run file; train nothing.
    help_all
        Show the options of all fields.
    set_
        key=value pairs that override keys of the file, as options do.
    """
    from gspo_rs.train.config.toml import gather

    if help_all:
        return show_all(train)
    logs.show("%(levelname)s %(name)s: %(message)s")
    settings = gather(file, set_ or [], given(fields))
    if set_:
        spelled = [respelled(name, getattr(settings.config, name)) for name in _keys(set_)]
        sys.stderr.write(f"--set will be gone in the next release; write {' '.join(spelled)}\n")
    if print_config:
        from gspo_rs.train.config.printed import printed

        return printed(settings)
    refuse_exits()
    if dry_run:
        return _rehearse(settings.config, resume=resume, as_json=json_)
    return _train(settings.config, resume=resume, quiet=quiet, as_json=json_)


def _rehearse(config: Any, *, resume: bool, as_json: bool) -> str:
    """Say what a run would do."""
    _without_bars()
    from gspo_rs.train.plan_text import lines
    from gspo_rs.train.rehearsal import plan

    found, following = plan(config, resume=resume), typed(less="--dry-run")
    if as_json:
        return _object({"dry_run": True, **found.to_dict(), "next": following})
    rehearsed = "\n".join(map(printable, lines(found)))
    return f"{rehearsed}\nnext      {printable(following)}\n"


def _train(config: Any, *, resume: bool, quiet: bool, as_json: bool) -> str | tuple[str, int]:
    """Run a training and say where the model is."""
    start = time.perf_counter()
    # At once, because a reward function may change the working directory.
    folder = Path.cwd() / config.output_dir
    before = set() if resume else _checkpoints(folder)
    try:
        _without_bars()
        from gspo_rs.train import loop as training
        from gspo_rs.train.summary import near

        result = training.train(config, resume=resume, quiet=quiet or as_json)
    except KeyboardInterrupt:
        return "", interrupted(_way_on(folder, before))
    if torchrun.rank() != "0":
        return ""  # of the processes of a run the first says how it ended
    if not as_json:
        return f"{result.steps} steps; model in {printable(str(near(result.final)))}\n"
    facts = {name: str(getattr(result, name)) for name in ("final", "metrics_file")}
    seconds = round(time.perf_counter() - start, 3)
    return _object(
        {"dry_run": False, "output": str(folder), "steps": result.steps, "seconds": seconds}
        | facts
        | {"metrics": result.metrics}
    )


def _object(facts: dict[str, Any]) -> str:
    """Return one JSON object; numbers that JSON has not are null."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(one) for name, one in value.items()}
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(plain({"verb": "train", **facts})) + "\n"


def _without_bars() -> None:
    """Switch the progress bars of transformers off, which would cut through a table.

    Takes seconds of imports that `--help` and a typing mistake should not wait for.
    """
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # type: ignore[no-untyped-call]


def _keys(overrides: list[str]) -> list[str]:
    return list(dict.fromkeys(item.partition("=")[0].strip() for item in overrides))


def _checkpoints(folder: Path) -> set[tuple[str, int]]:
    """List the checkpoints in a folder; one that was replaced is another."""
    return {(path.name, path.stat().st_ino) for path in folder.glob("checkpoint-*")}


def _way_on(folder: Path, before: set[tuple[str, int]]) -> str:
    """Return how to continue a stopped run; checkpoints in `before` are of an earlier run."""
    if before >= _checkpoints(folder) and before:
        return f"stopped before the first checkpoint; those in {folder} are of a run before"
    if any(folder.glob("checkpoint-*")):
        return f"`{typed('--resume')}` goes on"
    if not (folder / "metrics.jsonl").exists():
        return f"stopped before the first step; `{typed()}` begins again"
    return f"stopped without a checkpoint, so --resume cannot go on from what {folder} holds"
