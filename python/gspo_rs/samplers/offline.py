"""Completions of the prompts of a source, in parts that a killed run takes up again."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import polars as pl

from gspo_rs.data.progress import Pass, passes, under_way
from gspo_rs.data.prompt_table import prompts as read_prompts
from gspo_rs.data.source import SourceLike, locate
from gspo_rs.files.failures import FailureLimitError, allowed_failures
from gspo_rs.files.notebook import facts_html
from gspo_rs.files.parts import Parts, part_name, parts_in, unfinished
from gspo_rs.samplers import SamplerError
from gspo_rs.samplers.calls import HOPELESS, RefusedError, UnansweredError
from gspo_rs.samplers.endpoint import Endpoint
from gspo_rs.samplers.sampled import COLUMNS, Sampled, frame_of

__all__ = ["MADE_BY", "SampleReport", "sample"]

MADE_BY = "gspo-rs sample"
ROWS = 1024
"""Rows of a part, about: what a killed run may lose."""
Drawn = list[list[Sampled | None]]
_COUNTS = ("rows", "failed", "truncated", "tokens", "prompt_tokens")


@dataclass(frozen=True)
class SampleReport:
    """The result of sampling for a source.

    Attributes
    ----------
    output : Path
        The folder that was written.
    prompts, rows : int
        Prompts, and completions that were drawn, those of the run before too.
    failed : int
        Completions that the endpoint has not answered, or has refused; they have no row.
    truncated : int
        Completions that the limit cut off.
    tokens, prompt_tokens : int
        Of the completions, and of the prompts, of each completion anew: what an endpoint charges
        for, as it tells them.
    parts, skipped : int
        Files of the output, and how many of them were whole from a run before.
    retries : int
        Calls of this run that were repeated.
    """

    output: Path
    prompts: int
    rows: int
    failed: int
    truncated: int
    tokens: int
    prompt_tokens: int
    parts: int
    skipped: int
    retries: int

    def _repr_html_(self) -> str:
        return facts_html("sampled", vars(self))


@dataclass
class _Task:
    """What is sampled for, and what has been so far."""

    prompts: Sequence[Any]
    frame: pl.DataFrame
    n: int
    seed: int
    each: int
    allowed: int
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_COUNTS, 0))

    @property
    def n_parts(self) -> int:
        return -(-len(self.prompts) // self.each)

    def places(self, part: int) -> range:
        return range(part * self.each, min((part + 1) * self.each, len(self.prompts)))

    def add(self, facts: dict[str, Any]) -> None:
        for name in self.counts:
            self.counts[name] += int(facts[name])


def sample(
    source: SourceLike,
    target: str | Path,
    *,
    model: str | None = None,
    endpoint: str | None = None,
    n: int = 8,
    max_tokens: int = 256,
    temperature: float = 1.0,
    top_p: float = 1.0,
    top_k: int = 0,
    stop: Sequence[str] = (),
    seed: int = 0,
    prompt: str = "prompt",
    without: Sequence[str] = (),
    rpm: int | None = None,
    concurrency: int = 64,
    timeout: float = 600.0,
    window: float = 60.0,
    max_failed: str | int = "1%",
    device: str = "auto",
    resume: bool = True,
    overwrite: bool = False,
) -> SampleReport:
    """Draw completions of prompts into a folder of Parquet files.

    Parameters
    ----------
    source : path, glob, folder, address, sequence of these, LazyFrame or DataFrame
        Prompts, one a row; what `gspo_rs.data.prompts` takes.
    target : path
        The folder to write: files ``part-000000.parquet``, …, with all columns of the prompts and
        ``prompt_id`` (their own, or the number of the row), ``generation``, ``completion``,
        ``finish_reason``, ``prompt_tokens``, ``completion_tokens``, ``logprobs``, ``seed``,
        ``model`` and ``policy_version``; a ledger of them; a manifest.
    model : str, optional
        Folder or hub name of a model to load; with `endpoint` its name there.
    endpoint : str, optional
        Address of a server of OpenAI's protocol.
    n : int
        Completions of each prompt.
    max_tokens : int
        Most tokens of one.
    temperature, top_p, top_k, stop
        As for `gspo_rs.samplers.transformers.generate`.
    seed : int
        Decides, with the number of the prompt, what is drawn.
    prompt : str
        Column of the texts, or of lists of chat messages.
    without : sequence of str
        What the endpoint need not give: of ``logprobs``, ``token_ids`` and ``seed``.
    rpm : int, optional
        Requests a minute at most, in every minute; those that are repeated count. A run that is
        taken up waits a minute first: nobody knows what the one before asked for last.
    concurrency : int
        Requests at once at most.
    timeout : float
        Seconds for an answer.
    window : float
        Seconds that `rpm` is counted in.
    max_failed : str or int
        Completions that may fail, as a number or a share such as ``"1%"``, before the run stops.
    device : str
        Where a model is loaded.
    resume, overwrite : bool
        Whether to go on with what a run before has written, or to start over.

    Returns
    -------
    SampleReport

    Raises
    ------
    SamplerError
        If the endpoint does not give what it has to, refuses all, or answers nothing.
    FailureLimitError
        If more completions fail than may. The parts that are written stay, and the same call asks
        for the others again.
    ValueError, TypeError, OSError
        If the prompts cannot be read, have a column of a name that is written, or the target holds
        something else.
    LockedError
        If another process writes there.
    """
    if model is None and endpoint is None:
        raise ValueError("give a model (--model), or the address of an endpoint (--endpoint)")
    sampling = {"max_tokens": max_tokens, "temperature": temperature, "top_p": top_p}
    more: dict[str, Any] = {"top_k": top_k} if top_k else {}
    more |= {"stop": list(stop)} if stop else {}
    task, inputs = _task(source, prompt, n=n, seed=seed, max_failed=max_failed)
    asked = {"inputs": inputs, "prompt": prompt, "n": n, "seed": seed, **sampling, **more}
    with ExitStack() as stack:
        drawer: Any
        if endpoint is None:
            drawer = _loaded(str(model), {**sampling, **more}, device)
        else:
            limits: dict[str, Any] = {"rpm": rpm, "concurrency": concurrency}
            limits |= {"timeout": timeout, "window": window, "spent": unfinished(Path(target))}
            drawer = Endpoint(
                endpoint, model=model, sampling={**sampling, **more}, without=without, **limits
            )
            stack.callback(drawer.close)
        asked |= drawer.identity
        parts = stack.enter_context(
            parts_in(Path(target), asked, made_by=MADE_BY, resume=resume, overwrite=overwrite)
        )
        return _written(task, drawer, parts, Path(target))


def _task(
    source: SourceLike, prompt: str, *, n: int, seed: int, max_failed: str | int
) -> tuple[_Task, list[dict[str, Any]]]:
    """Read the prompts."""
    if n < 1:
        raise ValueError(f"n = {n}: must be at least 1")
    located = locate(source)
    texts = read_prompts(located, prompt=prompt).texts
    schema = located.check([])
    frame = located.collect([located.column(name).alias(name) for name in schema])
    taken = [name for name in frame.columns if name in COLUMNS and name != "prompt_id"]
    if taken:
        raise ValueError(
            f"the prompts of {located.name} have a column {taken[0]!r}, which is written here;"
            " rename it, or leave it out"
        )
    if "prompt_id" in frame.columns and frame["prompt_id"].n_unique() < frame.height:
        raise ValueError(
            f"prompt_id of {located.name} names some prompts twice; leave the column out, and their"
            " rows are numbered"
        )
    digest = blake2b(frame.write_ndjson().encode(), digest_size=16).hexdigest()
    inputs = [{"path": located.name, "rows": frame.height, "digest": digest}]
    allowed = allowed_failures(max_failed, len(texts) * n)
    return _Task(texts, frame, n, seed, max(ROWS // n, 1), allowed), inputs


def _loaded(name: str, sampling: dict[str, Any], device: str) -> Any:
    from gspo_rs.samplers.local import LocalModel  # loads PyTorch

    return LocalModel(name, sampling=sampling, device=device)


def _written(task: _Task, drawer: Any, parts: Parts, target: Path) -> SampleReport:
    skipped, retries = len(parts.done), 0
    for entry in parts.done.values():
        task.add(entry.facts)
    if not parts.manifest.complete:
        version = drawer.version() if isinstance(drawer, Endpoint) else None
        with under_way("sampling", len(task.prompts) * task.n) as bar:
            passes.advance(bar, task.counts["rows"] + task.counts["failed"])
            for part, drawn in _drawn(task, drawer, range(skipped, task.n_parts), bar):
                _write(task, parts, part, drawn, names=(drawer.model, version))
        if isinstance(drawer, Endpoint):
            retries = drawer.take_counts().get("retries", 0)
        parts.complete({"prompts": len(task.prompts), "parts": task.n_parts, **task.counts})
    counts = {**task.counts, "prompts": len(task.prompts), "parts": task.n_parts}
    return SampleReport(output=target, skipped=skipped, retries=retries, **counts)


def _write(
    task: _Task, parts: Parts, part: int, drawn: Drawn, *, names: tuple[str, str | None]
) -> None:
    """Write a part, with what was counted in it."""
    places = task.places(part)
    frame = frame_of(
        task.frame[places.start : places.stop],
        drawn,
        first=places.start,
        model=names[0],
        version=names[1],
    )
    facts = {
        "first": places.start,
        "rows": frame.height,
        "failed": len(places) * task.n - frame.height,
        "truncated": int((frame["finish_reason"] == "length").sum()),
        "prompt_tokens": sum(one.cost[0] for group in drawn for one in group if one),
        "tokens": sum(one.cost[1] for group in drawn for one in group if one),
    }
    parts.write(part_name(part), frame, facts)
    task.add(facts)


def _drawn(task: _Task, drawer: Any, parts: range, bar: Pass) -> Iterator[tuple[int, Drawn]]:
    """Draw the completions of parts, in their order."""
    meter = _Meter(bar)
    found = _asked(task, drawer, parts, meter) if isinstance(drawer, Endpoint) else None
    for part in parts:
        if found is not None:
            drawn: Drawn = next(found)
        else:
            places = task.places(part)
            some = task.prompts[places.start : places.stop]
            drawn = drawer.draw(some, task.n, first=places.start, seed=task.seed)
            for one in (one for group in drawn for one in group):
                meter.add(one)
        yield part, drawn


class _Meter:
    """Shows how many completions there are, and what they cost and how fast they come."""

    def __init__(self, bar: Pass) -> None:
        self._bar, self._began = bar, time.perf_counter()
        self._prompts = self._tokens = 0

    def add(self, one: Sampled | None) -> None:
        """Count a completion, or one that failed."""
        if one is not None:
            self._prompts += one.cost[0]
            self._tokens += one.cost[1]
        speed = self._tokens / (time.perf_counter() - self._began)
        cost = f"{self._prompts:,} tokens in, {self._tokens:,} out, {speed:,.0f} tokens/s"
        passes.note(self._bar, cost)
        passes.advance(self._bar, 1)


def _asked(task: _Task, endpoint: Endpoint, parts: range, meter: _Meter) -> Iterator[Drawn]:
    """Ask an endpoint for parts, the next ones before the first of them is whole."""
    open_parts: deque[list[list[tuple[Future[Any], int]]]] = deque()
    ahead = 1 + -(-2 * endpoint.concurrency // (task.each * task.n))
    if len(parts):
        endpoint.check_seed(task.seed, chat=not isinstance(task.prompts[0], str))
    try:
        for part in (*parts, *[None] * ahead):
            if part is not None:
                open_parts.append([_begun(task, endpoint, place) for place in task.places(part)])
            if open_parts and (len(open_parts) > ahead or part is None):
                yield _read(task, endpoint, open_parts.popleft(), meter)
    finally:
        for calls in open_parts:
            for call in (call for group in calls for call, _ in group):
                call.cancel()


def _begun(task: _Task, endpoint: Endpoint, place: int) -> list[tuple[Future[Any], int]]:
    seeds = [_seed(task.seed, place, generation) for generation in range(task.n)]
    return [(endpoint.begin(task.prompts[place], seed), seed) for seed in seeds]


def _read(
    task: _Task, endpoint: Endpoint, calls: list[list[tuple[Future[Any], int]]], meter: _Meter
) -> Drawn:
    """Return what calls were answered; None for those that were not, or were refused.

    Raises
    ------
    RefusedError
        If no other call would fare better.
    UnansweredError
        If nothing was answered so far.
    FailureLimitError
        If more have failed than may.
    """
    found: Drawn = []
    lost: list[SamplerError] = []
    enough = min(HOPELESS, len(calls) * task.n)
    for group in calls:
        found.append([])
        for call, seed in group:
            one = None
            try:
                one = endpoint.read(call, seed)
            except (RefusedError, UnansweredError) as error:
                lost.append(error)
                _check_lost(task, lost, answered=_any(found), enough=enough)
            found[-1].append(one)
            meter.add(one)
    if lost:
        _check_lost(task, lost, answered=_any(found), enough=enough)
    return found


def _seed(seed: int, place: int, generation: int) -> int:
    """Return the seed of one completion, of 31 bits, which every server takes."""
    words = f"{seed} {place} {generation}".encode()
    return int.from_bytes(blake2b(words, digest_size=4).digest(), "big") >> 1


def _any(found: Drawn) -> bool:
    return any(one is not None for group in found for one in group)


def _check_lost(task: _Task, lost: Sequence[SamplerError], *, answered: bool, enough: int) -> None:
    """Raise if no other call would fare better, or too many have failed."""
    last, failed = lost[-1], task.counts["failed"] + len(lost)
    if isinstance(last, RefusedError) and last.of_all:
        raise last
    if not answered and len(lost) < enough:
        return
    if not answered and all(isinstance(error, UnansweredError) for error in lost):
        raise last
    if failed > task.allowed:
        raise FailureLimitError(
            f"{failed:,} completions failed, and {task.allowed:,} of {len(task.prompts) * task.n:,}"
            f" may; last: {last}; the parts that are written stay, and the same command goes on;"
            " --max-failed (max_failed=…) lets more fail"
        ) from last
