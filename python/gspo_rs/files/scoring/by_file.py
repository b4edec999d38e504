"""Files scored one by one, each read once: the way for clustered groups."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from gspo_rs._core import KnownKeys, Scores
from gspo_rs.files.scoring.first_pass import (
    Read,
    Tally,
    compute,
    narrow_columns,
    narrow_frames,
    refuse_nothing,
    scores_of,
)
from gspo_rs.files.scoring.inputs import Input
from gspo_rs.files.scoring.manifest import Outcome
from gspo_rs.files.scoring.options import Options
from gspo_rs.files.scoring.progress import Progress
from gspo_rs.files.scoring.staging import BY_FILE, Staging
from gspo_rs.files.scoring.writers import copied, decoded, write_read
from gspo_rs.groups.checks import Floats
from gspo_rs.groups.estimators import estimator_named

__all__ = ["score_by_file"]

# Rows of the next file that are looked at beforehand.
PROBED = 1 << 14
# Bytes that a row takes in memory at least.
ROW_BYTES = 20


def score_by_file(
    place: Staging, asked: Options, inputs: list[Input], total: int | None, progress: Progress
) -> Outcome | None:
    """Score one file after the other, if a group lies in one file or at the border of two.

    `total` rows if that is known.

    Returns
    -------
    Outcome or None
        None once a key has come back in a later file, or where the keys or the rows of a file
        take too much memory. What was written until then is good for nothing.

    Raises
    ------
    ValueError, TypeError, OSError
        Naming the file, the column and the row.
    """
    scopes = [estimator_named(name).scope for name in asked.estimators]
    if asked.layout != "wide" or asked.rollouts is not None or scopes != ["group"]:
        return None
    if len(inputs) > 1 and not _may_succeed(place, asked, inputs):
        return None
    place.go(BY_FILE)
    skipped = len(place.done)
    progress.begin("scoring", total)
    run = _Run(place, asked, progress, KnownKeys() if len(inputs) > 1 else None)
    found: list[Read] = []
    tally, spilled, border = Tally(), False, None
    for given, following in zip(inputs, [*inputs[1:], None], strict=True):
        try:
            done = run.score(given, border, following)
        except _KeyReturnsError:
            return None
        found.append(done.seen)
        tally, spilled, border = tally.plus(done.tally), spilled or done.spilled, done.border
    refuse_nothing(inputs, sum(one.rows for one in found))
    outputs = [place.done[given.name] for given in inputs]
    return Outcome(found, outputs, tally, skipped, spilled, by_file=True)


class _KeyReturnsError(Exception):
    """Some group may lie in files that are not scored together."""


@dataclass(frozen=True)
class _Border:
    """A group at the border of two files: its key, and its rewards in either."""

    key: bytes
    before: Floats
    after: Floats


@dataclass(frozen=True)
class _Done:
    """What came of one file; a group at its end is counted with the next file."""

    seen: Read
    tally: Tally
    spilled: bool
    border: _Border | None


@dataclass(frozen=True)
class _Run:
    """What all files share; `keys` are those of the files before, None for a single file."""

    place: Staging
    asked: Options
    progress: Progress
    keys: KnownKeys | None

    def score(self, given: Input, before: _Border | None, following: Input | None) -> _Done:
        """Score one file and write it, unless a run before has."""
        written = given.name in self.place.done
        # Columns that are copied are decoded once, here; others when they are written anew.
        whole = copied(given, self.asked) and not written
        scores = self._scores(given, checked=not whole)
        if before:
            scores.carry(before.key, before.before)
        seen = self._read(given, scores, whole=whole)
        if before and len(scores.rewards_of(before.key)) != len(before.before) + len(before.after):
            raise _KeyReturnsError
        border = self._border(scores, before, following)
        tally = compute([scores], self.asked)
        if border:
            tally = tally.minus(self._alone(border))
        if written:
            self.place.same_contents({given.name: seen.digest})
        else:
            target = self.place.new / given.name
            entry = write_read(given, seen, target, options=self.asked, scores=[scores])
            self.place.finish_file(entry, seen.digest)
        return _Done(seen, tally, scores.spilled, border)

    def _scores(self, given: Input, *, checked: bool) -> Scores:
        taken = self.keys.memory if self.keys else 0
        rows = given.count() if given.is_parquet else 0
        left = self.asked.budget - taken
        # Keys on the disk can't be distinguished from those of other files.
        if self.keys and (taken > left or ROW_BYTES * rows > left):
            raise _KeyReturnsError
        return scores_of(self.asked, self.place.folder, checked=checked, taken=taken, rows=rows)

    def _read(self, given: Input, scores: Scores, *, whole: bool) -> Read:
        start, row = scores.n_rows, 0
        if self.keys:
            self.keys.begin_file(carried=start > 0)
        for frame in _frames(given, self.asked, whole=whole):
            with given.reading():
                row += scores.push(frame, row)
            self.progress.advance(frame.height)
            if self.keys and not self.keys.take(scores):
                raise _KeyReturnsError
        return Read(start, row, scores.end_file())

    def _border(
        self, scores: Scores, before: _Border | None, following: Input | None
    ) -> _Border | None:
        """Give the last group its rows at the beginning of the next file, if there are any."""
        key = scores.last_key()
        if key is None or following is None:
            return None
        own = scores.rewards_of(key)
        rows = following.source.frame.select(narrow_columns(following, self.asked)).head(PROBED)
        with following.reading():
            more = scores.leading(rows.collect(), key)
        if not len(more):
            return None
        if len(more) == PROBED or (before and key == before.key):
            raise _KeyReturnsError
        scores.carry(key, more)
        return _Border(key, own, more)

    def _alone(self, border: _Border) -> Tally:
        scores = scores_of(self.asked, self.place.folder, checked=False)
        scores.carry(border.key, border.before)
        scores.carry(border.key, border.after)
        return compute([scores], self.asked)


def _frames(given: Input, asked: Options, *, whole: bool) -> Iterator[pl.DataFrame]:
    """Yield ids and rewards of a file; `whole` decodes all columns, to find what is damaged."""
    if not whole:
        yield from narrow_frames(given, asked)
        return
    columns = narrow_columns(given, asked)
    with given.reading():
        for frame in given.source.batches(decoded(given, asked), given.count()):
            yield frame.select(columns)


def _may_succeed(place: Staging, asked: Options, inputs: list[Input]) -> bool:
    """Tell whether the first rows of the first two files share no key but at their border."""
    keys, last = KnownKeys(), None
    for given in inputs[:2]:
        scores = scores_of(asked, place.folder, checked=False)
        if last is not None:
            scores.carry(last, np.zeros(1))
        rows = given.source.frame.select(narrow_columns(given, asked)).head(PROBED)
        with given.reading():
            scores.push(rows.collect(), 0)
        keys.begin_file(carried=last is not None)
        if not keys.take(scores):
            return False
        last = scores.last_key()
    return True
