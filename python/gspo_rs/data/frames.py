"""The frames of a query, taken while it runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from queue import Empty, Queue
from threading import Event, Thread

import polars as pl

__all__ = ["frames_of"]

# Seconds that a query gets to stop once nobody wants its frames any more.
PATIENCE = 1.0


def frames_of(query: pl.LazyFrame) -> Iterator[pl.DataFrame]:
    """Yield what a query gives, in order, while it runs on by one frame.

    Raises
    ------
    PolarsError, PanicException
        Whatever ends the query before its time.

    Notes
    -----
    Polars' own `collect_batches` ends like a whole one when a thread of it panics, as some do on
    files that lack a part: rows are missing, and nobody is told. `sink_batches` raises.

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
        thread.join(PATIENCE)
