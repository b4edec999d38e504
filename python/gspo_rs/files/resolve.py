"""What a path refers to: plain files, the output of a scoring run, or a selection."""

from __future__ import annotations

from pathlib import Path

from gspo_rs.data.outputs import manifest_file
from gspo_rs.data.source import Source, SourceLike, locate
from gspo_rs.data.written import kind_of
from gspo_rs.files.scoring.read_back import scan

__all__ = ["resolve_source"]


def resolve_source(source: SourceLike) -> Source:
    """Find the rows behind `source`, whatever wrote it.

    Parameters
    ----------
    source : path, glob, sequence of these, LazyFrame or DataFrame
        What `gspo_rs.data.scan` takes; or the folder that `gspo_rs.score` wrote, wide or narrow;
        or one selection file of `gspo_rs.files.selection`.

    Returns
    -------
    Source
        Of the rows with all of their columns, with the scores where there are any.

    Raises
    ------
    ValueError, OSError
        As `gspo_rs.data.scan`, `gspo_rs.scan` and `gspo_rs.files.selection.apply`.

    Examples
    --------
    >>> import tempfile
    >>> import gspo_rs as gs, polars as pl
    >>> frame = pl.DataFrame({"id": ["a", "a"], "reward": [0.0, 1.0]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = gs.score(frame, Path(folder) / "out", by="id")
    ...     resolve_source(Path(folder) / "out").frame.select(
    ...         "percentile"
    ...     ).collect().to_series().to_list()
    [0.0, 1.0]
    """
    if isinstance(source, str | Path):
        path = Path(source)
        # What `locate` takes for its files, without the digests.
        if manifest_file(path) is not None and kind_of(path) is None:
            return Source(scan(path), str(path))
    return locate(source)
