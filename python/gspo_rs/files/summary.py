"""What a data set of scored groups looks like, in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from gspo_rs.census import read_narrow
from gspo_rs.draws import pass_at_k
from gspo_rs.groups import Groups
from gspo_rs.row_columns import Floats
from gspo_rs.source import KEY, SourceLike, locate
from gspo_rs.statistics import GroupStats, quantile, stats

__all__ = ["QUANTILES", "Summary", "summarize"]

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclass(frozen=True)
class Summary:
    """The groups of a data set, or of the part of it with one value in a column.

    Shares lie in [0, 1]; what needs a reward is None where there is none.

    Attributes
    ----------
    part : str or None
        The value, as text; None for the whole.
    rows, unscorable, groups : int
        Rows, those of them without a reward, and groups.
    size : list of float
        Smallest, median and largest group, unscorable members included.
    informative : float
        Share of groups that prefer one member to another.
    ties : float or None
        Share of scorable rows above one for each distinct reward of their group.
    mean, std : float or None
        Of all rewards (ddof 1).
    quantiles : list of float, or None
        Of all rewards, at `QUANTILES`, interpolated linearly.
    within : float or None
        Root of the mean variance (ddof 1) within groups of at least two scorable members.
    between : float or None
        Standard deviation (ddof 1) of the means of the groups.
    pass_at_k : dict of int to float
        The mean of `gspo_rs.pass_at_k` over the groups that have `k` scorable members; for k = 1,
        2, 4, … as long as half of the groups do.
    """

    part: str | None
    rows: int
    unscorable: int
    groups: int
    size: list[float]
    informative: float
    ties: float | None
    mean: float | None
    std: float | None
    quantiles: list[float] | None
    within: float | None
    between: float | None
    pass_at_k: dict[int, float]

    def to_dict(self) -> dict[str, Any]:
        """Return what `json.dumps` takes."""
        return asdict(self)


def summarize(
    source: SourceLike,
    *,
    by: str | Sequence[str],
    reward: str = "reward",
    per: str | None = None,
    threshold: float = 0.5,
) -> list[Summary]:
    """Describe scored groups without reading a text.

    Parameters
    ----------
    source : path, glob, sequence of these, LazyFrame or DataFrame
        Scored completions, one a row; see `gspo_rs.data.scan`.
    by : str or sequence of str
        The columns that name the group of a row.
    reward : str
        Column of the rewards: numbers or bools, null or NaN for an unscorable completion.
    per : str, optional
        A column whose values are described one by one, such as ``source``, beside the whole. The
        groups of a part are those of its rows alone.
    threshold : float
        For `gspo_rs.pass_at_k`: a completion is right when its reward is at least this.

    Returns
    -------
    list of Summary
        The whole, then the parts in the order of their values.

    Raises
    ------
    ValueError, TypeError, OSError
        As `gspo_rs.data.take_census`; and ValueError if `threshold` is not finite.

    Notes
    -----
    O(n) memory for n rows, whatever the length of their texts.

    Examples
    --------
    >>> frame = pl.DataFrame({"id": ["a", "a", "b", "b"], "reward": [0.0, 1.0, 1.0, 1.0]})
    >>> (whole,) = summarize(frame, by="id")
    >>> whole.groups, whole.informative, whole.pass_at_k
    (2, 0.5, {1: 0.75, 2: 1.0})
    """
    located = locate(source)
    if per is not None:
        located.check([(per, KEY)])
    narrow = read_narrow(located, by, reward, [pl.col(per)] if per else [])
    found = [_described(None, narrow.rewards, narrow.groups, threshold)]
    if per is None:
        return found
    column = narrow.beside.to_series().alias("part").to_frame().with_row_index("row")
    parts = column.group_by("part").agg("row").sort("part")
    for value, rows in zip(parts["part"], parts["row"], strict=True):
        groups = Groups(narrow.groups.codes[rows.to_numpy()])
        found.append(_described(str(value), narrow.rewards[rows.to_numpy()], groups, threshold))
    return found


def _described(part: str | None, rewards: Floats, groups: Groups, threshold: float) -> Summary:
    found = stats(rewards, groups)
    scored = rewards[~np.isnan(rewards)]
    n = len(scored)
    whole = Groups.from_offsets([0, n]) if n else None
    means = found.mean[found.scored > 0]
    spread = found.std[found.scored > 1]
    return Summary(
        part=part,
        rows=len(rewards),
        unscorable=len(rewards) - n,
        groups=groups.n_groups,
        size=[float(np.quantile(found.size, q)) for q in (0, 0.5, 1)],
        informative=float(found.informative.mean()),
        ties=1 - float(found.distinct.sum()) / n if n else None,
        mean=float(scored.mean()) if n else None,
        std=float(scored.std(ddof=1)) if n > 1 else None,
        quantiles=quantile(scored, whole, QUANTILES)[0].tolist() if whole else None,
        within=float(np.sqrt(np.mean(spread**2))) if len(spread) else None,
        between=float(means.std(ddof=1)) if len(means) > 1 else None,
        pass_at_k=_passes(rewards, found, threshold),
    )


def _passes(rewards: Floats, found: GroupStats, threshold: float) -> dict[int, float]:
    passes = {}
    k = 1
    while 2 * (found.scored >= k).sum() >= found.groups.n_groups:
        chances = pass_at_k(rewards, found.groups, k, threshold)
        passes[k] = float(np.nanmean(chances))
        k *= 2
    return passes
