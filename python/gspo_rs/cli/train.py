"""`gspo-rs train`: a training run from a TOML file."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from gspo_rs.cli import logs
from gspo_rs.cli.errors import command, interrupted
from gspo_rs.cli.exits import refuse_exits
from gspo_rs.cli.terminal import printable
from gspo_rs.cli.typed import typed


@command("stopped")
def train(
    config: Path,
    *,
    resume: bool = False,
    set_: Annotated[list[str] | None, Parameter(name="--set", consume_multiple=True)] = None,
) -> str | tuple[str, int]:
    """Train a causal language model as configured in a TOML file.

    Parameters
    ----------
    config
        The TOML file; its keys are the fields of `gspo_rs.train.Config`.
    resume
        Resume from the newest checkpoint in the output folder.
    set_
        key=value pairs that override keys of the file.
    """
    from gspo_rs.train.config.toml import load

    logs.show("%(levelname)s %(name)s: %(message)s")
    refuse_exits()
    folder, before = Path.cwd(), set[tuple[str, int]]()
    try:
        settings = load(config, set_ or [])
        # At once, because a reward function may change the working directory.
        folder /= settings.output_dir
        before = set() if resume else _checkpoints(folder)
        # Seconds of imports that `--help` and a typing mistake should not wait for.
        from transformers.utils.logging import disable_progress_bar

        from gspo_rs.train import loop as training

        disable_progress_bar()  # type: ignore[no-untyped-call] # would cut through the table
        result = training.train(settings, resume=resume)
    except KeyboardInterrupt:
        return "", interrupted(_way_on(folder, before))
    return f"{result.steps} steps; model in {printable(str(result.final))}\n"


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
