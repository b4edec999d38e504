"""A scoring run without its output: everything read, checked and counted, nothing written."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from gspo_rs.files.filters import refuse_empty
from gspo_rs.files.scoring.first_pass import (
    all_scores_of,
    check_columns,
    read,
    with_reading,
)
from gspo_rs.files.scoring.inputs import Input
from gspo_rs.files.scoring.manifest import Outcome, Report, manifest_of, report_of
from gspo_rs.files.scoring.options import Options
from gspo_rs.files.scoring.progress import Progress
from gspo_rs.files.scoring.rollouts import tallied
from gspo_rs.files.scoring.staging import Staging, check_target

__all__ = ["rehearsed"]


def rehearsed(
    place: Staging, asked: Options, inputs: list[Input], *, replaced: bool, allow_empty: bool
) -> Report:
    """Read ids and rewards of all files, compute all groups, and count what would be written.

    What does not fit into the memory limit goes through temporary files of the system.

    Parameters
    ----------
    place : Staging
        That of the target, which is only looked at.
    replaced : bool
        Whether an output that is there may be, or is the one that is asked for.

    Raises
    ------
    ValueError, TypeError, OSError, MemoryError
        As `gspo_rs.score`, but for what only writing can tell.
    """
    check_target(place.target, single=place.single)
    if not replaced:
        place.refuse_other()
    with TemporaryDirectory(prefix="gspo_rs-") as spill, Progress() as progress:
        asked = with_reading(inputs, asked)
        check_columns(inputs, asked)
        scores = all_scores_of(asked, Path(spill), checked=False)
        progress.begin("reading", None)
        seen = read(inputs, asked, scores, progress)
        tally = tallied(inputs, asked, scores, progress)
    if asked.rules:
        refuse_empty(tally.kept, tally.dropped, "the source", allow_empty=allow_empty)
    outcome = Outcome(seen, [], tally, 0, scores[0].spilled, by_file=False)
    return report_of(place.target, manifest_of(asked, inputs, outcome), outcome)
