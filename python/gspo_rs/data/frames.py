"""Frames of a query, yielded while it runs, and one error type for every failure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, Queue
from threading import Event, Thread, current_thread

import polars as pl

from gspo_rs.data.full_disk import is_full

__all__ = ["UNREADABLE", "frames_of", "reading"]

# What Polars raises where it can't read; it panics on some damaged files, which is no `Exception`.
UNREADABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)
# Seconds that a query gets to stop once nobody wants its frames any more.
PATIENCE = 1.0


@contextmanager
def reading(culprit: Callable[[], str]) -> Iterator[None]:
    """Turn any error of reading into an OSError that names the `culprit`."""
    try:
        yield
    except UNREADABLE as error:
        # Said so already, further in; or of what is written meanwhile.
        if str(error).startswith("cannot read ") or is_full(error):
            raise
        raise OSError(f"cannot read {culprit()}: {error}") from error
    except ValueError as error:
        # Polars adds where a function of ours that it called stands in the query.
        message, note, _ = str(error).partition("\n\nThis error occurred in")
        if note:
            raise ValueError(message) from error
        raise


def frames_of(query: pl.LazyFrame) -> Iterator[pl.DataFrame]:
    """Yield the frames of a query in order, while the next one is computed.

    Raises
    ------
    PolarsError, PanicException
        Whatever ends the query before its time.

    Notes
    -----
    Polars' own `collect_batches` ends like a whole one when a thread of it panics, as some do on
    files that lack a part: rows are missing without an error. `sink_batches` raises.

    Examples
    --------
    >>> sum(frame.height for frame in frames_of(pl.LazyFrame({"reward": [0.0, 1.0]})))
    2
    """
    ready: Queue[pl.DataFrame | BaseException | None] = Queue(maxsize=1)
    unwanted = Event()

    def give(frame: pl.DataFrame) -> bool:
        if not unwanted.is_set():
            ready.put(frame)
        return unwanted.is_set()

    def run() -> None:
        end: BaseException | None = None
        try:
            query.sink_batches(give, maintain_order=True)
        except BaseException as error:  # noqa: BLE001 - it is raised where the frames are taken
            end = error
        if not unwanted.is_set():
            ready.put(end)

    thread = Thread(target=run, name="gspo_rs-query", daemon=True)
    thread.start()
    try:
        while (found := ready.get()) is not None:
            if isinstance(found, BaseException):
                raise found
            yield found
    finally:
        unwanted.set()
        # Whoever waits to give one more frame can go on.
        with suppress(Empty):
            ready.get_nowait()
        # Whoever drops the frames may be a query that reads them.
        if thread is not current_thread():
            thread.join(PATIENCE)
