"""`gspo-rs sample`: completions of prompts, into files."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from gspo_rs.cli.calls import calls
from gspo_rs.cli.outcome import Outcome, counted
from gspo_rs.cli.parameters import OfParts, Overwrite, Several, Sources, Split, Whole

if TYPE_CHECKING:
    from gspo_rs.samplers.offline import SampleReport


def _sampled(report: SampleReport, _: object) -> Outcome:
    lines = [
        f"{counted(report.rows, 'completions')} of {counted(report.prompts, 'prompts')},"
        f" {report.prompt_tokens:,} tokens in, {report.tokens:,} out; {report.truncated:,}"
        f" truncated; {report.output}"
    ]
    if report.failed:
        lines.append(f"{counted(report.failed, 'completions')} failed and have no row")
    if report.retries:
        lines.append(f"{counted(report.retries, 'calls')} were repeated")
    if report.skipped:
        lines[0] += f"; {report.skipped:,} of {counted(report.parts, 'parts')} were done"
    return Outcome(
        lines, {"verb": "sample", **asdict(report)}, following=["scan", str(report.output)]
    )


@calls("samplers.offline", _sampled, stopped="stopped; `{again}` goes on")
def sample(
    source: Sources,
    /,
    *,
    target: Annotated[Path, OfParts],
    model: str | None = None,
    endpoint: str | None = None,
    n: Whole = 8,
    max_tokens: Whole = 256,
    temperature: float = 1.0,
    top_p: float = 1.0,
    top_k: Whole = 0,
    stop: Several = None,
    seed: Whole = 0,
    prompt: str = "prompt",
    without: Several = None,
    rpm: Whole | None = None,
    concurrency: Whole = 64,
    timeout: float = 600.0,
    max_failed: str = "1%",
    device: str = "auto",
    resume: bool = True,
    split: Split = None,
    overwrite: Overwrite = False,
) -> None:
    """Draw completions of prompts with a model or an endpoint, into files.

    Parameters
    ----------
    model
        Folder or hub name of a model to load; with --endpoint its name there.
    endpoint
        Address of a server of OpenAI's protocol; OPENAI_API_KEY is its key.
    n
        Completions of each prompt.
    max_tokens
        Most tokens of a completion.
    temperature
        Logits are divided by it.
    top_p
        Draw from the most likely tokens of this total probability.
    top_k
        Draw from this many most likely tokens; 0 for all.
    stop
        Text at which a completion ends; repeat the option for several.
    seed
        Decides, with the number of the prompt, what is drawn.
    prompt
        Column of the prompts: text, or chat messages.
    without
        What the endpoint need not give: logprobs, token_ids or seed; repeat the option.
    rpm
        Requests a minute at most, in every minute.
    concurrency
        Requests at once at most.
    timeout
        Seconds for an answer.
    max_failed
        Completions that may fail, a share or a number; beyond it the run stops with exit code 3.
    device
        Where a model is loaded; auto is a GPU if there is one.
    resume
        Continue where a stopped run was.
    """
