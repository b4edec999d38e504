"""Statistics of groups: of arrays of rewards, or of a source of scored completions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    from gspo_rs.data.source import SourceLike
    from gspo_rs.files.summary import Summaries
    from gspo_rs.groups.statistics import GroupStats

__all__ = ["stats"]

OF_A_SOURCE = {"source", "by", "reward", "per", "threshold"}


@overload
def stats(rewards: Any, groups: Any = None, *, group_size: int | None = None) -> GroupStats: ...


@overload
def stats(
    source: SourceLike,
    *,
    by: str | Sequence[str],
    reward: str = "reward",
    per: str | None = None,
    threshold: float | None = None,
) -> Summaries: ...


def stats(*given: Any, **options: Any) -> Any:
    """Describe groups: ``stats(rewards, groups)`` of arrays, ``stats(source, by=…)`` of a source.

    Parameters
    ----------
    rewards, groups, group_size
        Arrays: `gspo_rs.groups.statistics.stats`, which loads no Polars.
    source, by, reward, per, threshold
        A source: `gspo_rs.files.summary.summarize`.

    Returns
    -------
    GroupStats or Summaries
        Of arrays one value for each group; of a source the whole, then the parts of `per`.

    Raises
    ------
    ValueError, TypeError, OSError
        As these functions.

    Examples
    --------
    >>> stats([0.0, 1.0, 1.0], ["a", "a", "b"]).mean
    array([0.5, 1. ])
    >>> import polars as pl
    >>> frame = pl.DataFrame({"id": ["a", "a", "b"], "reward": [0.0, 1.0, 1.0]})
    >>> stats(frame, by="id")[0].groups
    2
    """
    if OF_A_SOURCE & options.keys() or (len(given) == 1 and not options and _is_source(given[0])):
        from gspo_rs.files.summary import summarize

        return summarize(*given, **options)
    from gspo_rs.groups.statistics import stats as of_arrays

    return of_arrays(*given, **options)


def _is_source(given: Any) -> bool:
    """Tell whether something has rows with columns, or names files, without loading Polars."""
    first = given[0] if isinstance(given, list | tuple) and given else given
    if isinstance(first, str | Path | Mapping):
        return True
    return any(hasattr(given, name) for name in ("columns", "column_names", "collect_schema"))
