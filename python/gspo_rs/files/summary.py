"""Summary statistics of a data set of scored groups."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from gspo_rs.data.group_index import read_keys
from gspo_rs.data.known_schemas import with_known_columns
from gspo_rs.data.nested_source import by_member
from gspo_rs.data.source import KEY, SourceLike, locate
from gspo_rs.files.notebook import as_html, facts_html
from gspo_rs.groups.checks import Floats
from gspo_rs.groups.groups import Groups
from gspo_rs.groups.overview import overall, right_from, spread_of, ties_of
from gspo_rs.groups.statistics import GroupStats, pass_at_k, stats

__all__ = ["QUANTILES", "Summaries", "Summary", "summarize"]

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclass(frozen=True)
class Summary:
    """The groups of a data set, or of the part of it with one value in a column.

    Shares lie in [0, 1]; what needs a reward is None where there is none.

    Attributes
    ----------
    per : str or None
        The column that the part has one value in; None for the whole.
    part : str or None
        The value, as text; None where it is null, and for the whole.
    rows, unscorable, groups : int
        Rows, those of them without a reward, and groups.
    size : list of float
        Smallest, median and largest group, unscorable members included.
    informative : float
        Share of groups that prefer one member to another.
    ties : float or None
        Share of the pairs of scorable rollouts of one group whose rewards are equal.
    mean, std : float or None
        Of all rewards (ddof 1).
    quantiles : list of float, or None
        Of all rewards, at `QUANTILES`, interpolated linearly.
    within, between : float or None
        The variance of all rewards (ddof 0), as what lies within groups and what between them:
        the mean squared distance of a reward from the mean of its group, and of that mean from
        the mean of all. They add up to it.
    threshold : float or None
        From which reward on a completion is right: as given, else 0.5 if all rewards of the whole
        are 0 or 1.
    pass_at_k : dict of int to float
        The mean of `gspo_rs.pass_at_k` over the groups that have `k` scorable members; for k = 1,
        2, 4, … as long as half of the groups do. Empty without a threshold.
    """

    per: str | None
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
    threshold: float | None
    pass_at_k: dict[int, float]

    def to_dict(self) -> dict[str, Any]:
        """Return what `json.dumps` takes."""
        return asdict(self)

    def _repr_html_(self) -> str:
        return facts_html("whole" if self.per is None else f"{self.per} {self.part}", vars(self))


class Summaries(list[Summary]):
    """The whole and its parts; a table in a notebook."""

    def _repr_html_(self) -> str:
        names = [name for name in vars(self[0]) if name != "per"] if self else []
        rows = [[getattr(summary, name) for name in names] for summary in self]
        return as_html(names, rows)


@with_known_columns
def summarize(
    source: SourceLike,
    *,
    by: str | Sequence[str] | None = None,
    reward: str = "reward",
    per: str | None = None,
    threshold: float | None = None,
) -> Summaries:
    """Describe scored groups without reading a text.

    Parameters
    ----------
    source : path, glob, sequence of these, LazyFrame or DataFrame
        Scored completions, one a row; see `gspo_rs.data.scan`.
    by : str or sequence of str, optional
        The columns that name the group of a row. May be left out where each row is a group.
    reward : str
        Column of the rewards: numbers or bools, null or NaN for an unscorable completion.
    per : str, optional
        A column whose values are described one by one, such as ``source``, beside the whole. The
        groups of a part are those of its rows alone.
    threshold : float, optional
        For `gspo_rs.pass_at_k`: a completion is right when its reward is at least this. By default
        0.5 if all rewards are 0 or 1; of others pass@k means nothing without it.

    Returns
    -------
    Summaries
        A list: the whole, then the parts in the order of their values, null first.

    Raises
    ------
    ValueError, TypeError, OSError
        As `gspo_rs.data.index_groups`; and ValueError if `threshold` is not finite, or a reward
        larger than 1e150.

    Notes
    -----
    O(n) memory for n rows, whatever the length of their texts.

    Examples
    --------
    >>> import polars as pl
    >>> frame = pl.DataFrame({"id": ["a", "a", "b", "b"], "reward": [0.0, 1.0, 1.0, 1.0]})
    >>> (whole,) = summarize(frame, by="id")
    >>> whole.groups, whole.informative, whole.pass_at_k
    (2, 0.5, {1: 0.75, 2: 1.0})
    """
    located, keys = by_member(locate(source), by, [reward], beside=[per])
    if per is not None:
        located.check([(per, KEY)])
    narrow = read_keys(located, keys, reward, [located.key(per)] if per else [])
    right = right_from(narrow.rewards, threshold)
    found = Summaries([_described((None, None), narrow.rewards, narrow.groups, right)])
    if per is None:
        return found
    column = narrow.beside.to_series().alias("part").to_frame().with_row_index("row")
    parts = column.group_by("part").agg("row").sort("part")
    for value, rows in zip(parts["part"], parts["row"], strict=True):
        groups = Groups(narrow.groups.codes[rows.to_numpy()])
        part = None if value is None else str(value)
        found.append(_described((per, part), narrow.rewards[rows.to_numpy()], groups, right))
    return found


def _described(
    place: tuple[str | None, str | None],
    rewards: Floats,
    groups: Groups,
    threshold: float | None,
) -> Summary:
    found = stats(rewards, groups)
    whole = overall(rewards, QUANTILES)
    spread = spread_of(found)
    n = int(found.scored.sum())
    return Summary(
        per=place[0],
        part=place[1],
        rows=len(rewards),
        unscorable=len(rewards) - n,
        groups=groups.n_groups,
        size=[float(np.quantile(found.size, q)) for q in (0, 0.5, 1)],
        informative=float(found.informative.mean()),
        ties=_known(ties_of(rewards, groups).share),
        mean=_known(whole.mean),
        std=_known(whole.std),
        quantiles=list(whole.quantiles) if n else None,
        within=_known(spread.within),
        between=_known(spread.between),
        threshold=threshold,
        pass_at_k={} if threshold is None else _passes(rewards, found, threshold),
    )


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _passes(rewards: Floats, found: GroupStats, threshold: float) -> dict[int, float]:
    passes = {}
    k = 1
    while 2 * (found.scored >= k).sum() >= found.groups.n_groups:
        chances = pass_at_k(rewards, found.groups, k, threshold)
        passes[k] = float(np.nanmean(chances))
        k *= 2
    return passes
