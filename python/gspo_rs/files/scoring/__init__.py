"""Score completions larger than memory: rank, percentile and advantage of every row."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from gspo_rs._core import Scores
from gspo_rs.data.full_disk import naming
from gspo_rs.data.known_schemas import columns_of
from gspo_rs.data.outputs import OLD_MANIFEST, manifest_file
from gspo_rs.data.source import SourceLike
from gspo_rs.files.atomic import resolved
from gspo_rs.files.filters import refuse_empty
from gspo_rs.files.scoring.by_file import score_by_file
from gspo_rs.files.scoring.first_pass import (
    Read,
    all_scores_of,
    check_columns,
    read,
    with_reading,
)
from gspo_rs.files.scoring.inputs import Input, inputs_of
from gspo_rs.files.scoring.manifest import (
    Manifest,
    Outcome,
    OutputEntry,
    Report,
    load,
    manifest_of,
    report_of,
)
from gspo_rs.files.scoring.nested_inputs import split_inputs
from gspo_rs.files.scoring.one_file import as_one_file, is_one_file
from gspo_rs.files.scoring.options import Layout, Options, options_of
from gspo_rs.files.scoring.progress import Progress
from gspo_rs.files.scoring.rehearsal import rehearsed
from gspo_rs.files.scoring.rollouts import tallied
from gspo_rs.files.scoring.staging import AT_ONCE, Staging, is_taken, staged
from gspo_rs.files.scoring.writers import write_narrow, write_wide

__all__ = ["Report", "score"]

# Bytes that the scores of a row take in a file, and that a row takes in the spill, both packed: of
# short ids and rewards of few values. Who has more is told by a full disk.
WRITTEN = 8
SPILLED = 10

_log = logging.getLogger("gspo_rs")


def score(
    source: SourceLike,
    target: str | Path,
    *,
    by: str | Sequence[str] | None = None,
    reward: str | None = None,
    estimator: str | Sequence[str] = "percentile",
    layout: Layout = "wide",
    suffix: str = "",
    drop: Sequence[str] = (),
    memory_limit: str | int = "2GiB",
    resume: bool = True,
    allow_empty: bool = False,
    dry_run: bool = False,
    overwrite: bool = False,
    keep: str = "all",
    threshold: float | None = None,
    rollouts: str | None = None,
    **options: Any,
) -> Report:
    """Score completions in files, however large, and write them with their scores.

    Parameters
    ----------
    source : path, glob, folder, address, sequence of these, LazyFrame or DataFrame
        One row per completion: Parquet, NDJSON, CSV or Arrow IPC by suffix; ``s3://``, ``hf://``
        and other addresses are Parquet, read by Polars. The rows of a group may lie anywhere.
    target : path
        The folder of the output: one Parquet file per input file, of the same relative name,
        and ``_manifest.parquet``. A name that ends in ``.parquet`` is the one file of a source of
        one file or frame, with the manifest in its metadata. An output that is there stays whole
        until the new one is.
    by : str or sequence of str, optional
        The columns that name the group of a row; those of `gspo_rs.data.known_schemas` by default.
    reward : str, optional
        Column of the rewards: numbers or bools, null or NaN for an unscorable completion; that of
        a known schema by default, or ``reward``.
    estimator : str or sequence of str
        The advantage, and `options` are its options; see `gspo_rs.advantage`. Several are computed
        in one pass: the columns are ``advantage_`` and their names, and each takes those of the
        `options` that it has.
    layout : {"wide", "narrow"}
        Whether the output has all columns of the input, or the scores alone, row by row.
    suffix : str
        What the names of the new columns end with, so that a file can be scored twice.
    drop : sequence of str
        Columns of the input that a wide output is without.
    memory_limit : str or int
        Bytes, such as ``"2GiB"``, that ids, scores and buffers may take beside the libraries.
        Beyond it ids and scores go through temporary files beside the output.
    resume : bool
        Whether to go on where a run stopped that was killed or interrupted; with other options or
        inputs than that run it is refused. A finished output is kept if it is what is asked for.
    allow_empty : bool
        Whether `keep` may leave no row.
    dry_run : bool
        Whether to read, check and count, and write nothing.
    overwrite : bool
        Whether a finished output of something else may be replaced, once the new one is whole.
    keep : str
        Which rows to write: ``"all"``, or rules such as ``"informative,top:0.25"``; see
        `gspo_rs.files.filters`.
    threshold : float, optional
        For the rule ``pass-rate`` and the estimator ``pass_at_k``: a completion is right from this
        reward on; 0.5 by default.
    rollouts : str, optional
        Column of ids where one rollout gave several sequences, a row each: rows of one group with
        one id have one reward, which counts once, in `group_size` too, and all get its scores.

    Returns
    -------
    Report

    Raises
    ------
    ValueError, TypeError
        For bad options, bad columns (a missing one, a wrong type, a null id, an infinite
        reward, two rewards of one rollout, columns that differ between files, names that would be
        given twice), or files
        that change meanwhile. Names the file, the column and the row within the file. Also for an
        unfinished run that was asked for something else.
    OSError
        If a file can't be read, or the disk is too small.
    MemoryError
        If the memory limit is too small, also for the largest row group; says what is needed.
    RuntimeError
        If another process writes the same output.

    Notes
    -----
    New columns: ``rank`` (mid-ranks, from 1), ``percentile``, ``advantage``, ``group_size``,
    ``group_mean``, ``group_std`` (ddof 1), with the bits of the array functions. The first pass
    reads ids and rewards alone and holds 16 bytes a row (20 for a wide output) and the keys, for
    each estimator; the
    texts are read once more to be checked, and their bytes are copied. Where no group lies in two
    files, a wide output takes one pass, which holds the rows of one file and all keys.

    Examples
    --------
    >>> import tempfile, polars as pl
    >>> frame = pl.DataFrame({"prompt_id": ["a", "b", "a"], "reward": [0.0, 1.0, 1.0]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = score(frame, Path(folder) / "out", by="prompt_id")
    ...     found = pl.read_parquet(Path(folder) / "out" / "*.parquet")
    >>> report.groups, found["rank"].to_list()
    (2, [1.0, 1.0, 2.0])
    """
    asked = options_of(
        by="" if by is None else by,
        reward=reward or "reward",
        estimator=estimator,
        estimator_options=options,
        layout=layout,
        keep=keep,
        threshold=threshold,
        memory_limit=memory_limit,
        rollouts=rollouts,
        suffix=suffix,
        drop=drop,
    )
    output = Path(target).absolute()
    place = resolved(output)
    single = is_one_file(place)
    inputs = inputs_of(source, output, layout)
    if single:
        inputs = as_one_file(inputs, place)
    known = columns_of(inputs[0].source, by, reward)
    asked = replace(asked, by=known.by or (), reward=known.reward)
    inputs, asked = split_inputs(inputs, asked, known.by)
    if dry_run:
        staging = Staging(place, single=single)
        free = overwrite or (resume and bool(_finished(staging, asked, inputs, overwrite=False)))
        found = rehearsed(staging, asked, inputs, replaced=free, allow_empty=allow_empty)
        return replace(found, output=output)
    with naming(output), staged(place, single=single) as staging:
        if resume and (manifest := _finished(staging, asked, inputs, overwrite=overwrite)):
            staging.remove()
            return report_of(output, manifest, None)
        staging.refuse_taken(overwrite=overwrite)
        staging.begin(asked.recorded() | {"inputs": _stamps(inputs)}, resume=resume)
        try:
            return report_of(output, *_run(staging, asked, inputs, allow_empty=allow_empty))
        except Exception:
            # What Ctrl-C or a crash leaves can be resumed; a failure would only come again.
            staging.remove()
            raise


def _stamps(inputs: list[Input]) -> list[dict[str, Any]]:
    return [
        {"path": given.path or given.source.name, **(asdict(given.stamp) if given.stamp else {})}
        for given in inputs
    ]


def _finished(
    place: Staging, asked: Options, inputs: list[Input], *, overwrite: bool
) -> Manifest | None:
    """Return the manifest of the target if it is what was asked for already.

    One of an earlier version is so unless it may be replaced.
    """
    if not is_taken(place.target) or (place.single and manifest_file(place.target) is None):
        return None
    try:
        manifest = load(place.target)
    except ValueError:
        if place.single and overwrite:
            return None
        raise
    stamps = [(e.path, e.size, e.mtime_ns) for e in manifest.inputs]
    now = [(i.path, i.stamp.size, i.stamp.mtime_ns) for i in inputs if i.stamp]
    same = manifest.options == asked.recorded() and stamps == now
    if not same or any(entry.damage(place.target) for entry in manifest.outputs):
        return None
    if (place.target / OLD_MANIFEST).exists():
        if overwrite:
            return None
        _log.warning(
            "%s has a %s of an earlier version, over which pandas, Polars and datasets stumble; "
            "write it again with --overwrite (overwrite=True)",
            place.target,
            OLD_MANIFEST,
        )
    return manifest


def _run(
    place: Staging, asked: Options, inputs: list[Input], *, allow_empty: bool
) -> tuple[Manifest, Outcome]:
    with Progress() as progress:
        asked = with_reading(inputs, asked)
        countable = all(given.is_parquet for given in inputs)
        total = sum(given.count() for given in inputs) if countable else None
        _check_space(place, asked, inputs, total)
        check_columns(inputs, asked)
        outcome = None
        if place.way != AT_ONCE:
            outcome = score_by_file(place, asked, inputs, total, progress)
        if outcome is None:
            outcome = _score_at_once(place, asked, inputs, total, progress)
        if asked.rules:
            found = outcome.tally
            refuse_empty(found.kept, found.dropped, "the source", allow_empty=allow_empty)
        manifest = manifest_of(asked, inputs, outcome)
        place.commit(manifest)
    return manifest, outcome


def _score_at_once(
    place: Staging, asked: Options, inputs: list[Input], total: int | None, progress: Progress
) -> Outcome:
    """Read ids and rewards of all files, compute all groups, and write all files."""
    place.go(AT_ONCE)
    wide = asked.layout == "wide"
    scores = all_scores_of(asked, place.folder, checked=wide, rows=total or 0)
    progress.begin("reading", total)
    seen = read(inputs, asked, scores, progress)
    place.same_contents({g.name: one.digest for g, one in zip(inputs, seen, strict=True)})
    tally = tallied(inputs, asked, scores, progress)
    progress.begin("writing", scores[0].n_rows)
    skipped = len(place.done)
    outputs = _write(place, asked, inputs, seen, scores=scores, progress=progress)
    return Outcome(seen, outputs, tally, skipped, scores[0].spilled, by_file=False)


def _write(
    place: Staging,
    asked: Options,
    inputs: list[Input],
    seen: list[Read],
    *,
    scores: Sequence[Scores],
    progress: Progress,
) -> list[OutputEntry]:
    write = write_wide if asked.layout == "wide" else write_narrow
    for given, known in zip(inputs, seen, strict=True):
        if given.name in place.done:
            progress.advance(known.rows)
            continue
        target = place.new / given.name
        entry = write(given, known, target, options=asked, scores=scores, progress=progress)
        place.finish_file(entry, known.digest)
    return [place.done[given.name] for given in inputs]


def _check_space(place: Staging, asked: Options, inputs: list[Input], rows: int | None) -> None:
    """Refuse to start where the disk can't hold the output."""
    given = sum(one.stamp.size for one in inputs if one.stamp)
    rows = rows if rows is not None else given // 64
    several = len(asked.estimators)
    needed = rows * (WRITTEN + 4 * (several - 1)) + (given if asked.layout == "wide" else 0)
    if several * rows * 44 > asked.budget:
        needed += several * rows * SPILLED
    free = shutil.disk_usage(place.folder).free
    if needed > free:
        raise OSError(
            f"the output {place.target} takes at least {needed >> 20} MiB while it is written, but "
            f"only {free >> 20} MiB of its disk are free"
        )
