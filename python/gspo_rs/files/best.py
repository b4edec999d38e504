"""The best completions of each prompt in a file, for rejection sampling."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from gspo_rs.census import read_narrow
from gspo_rs.estimators import as_count
from gspo_rs.files.keep import choose, parse
from gspo_rs.files.output import Written, checked_target, write_frames
from gspo_rs.files.picked import picked, refuse_null
from gspo_rs.files.texts import texts
from gspo_rs.source import SourceLike, locate

__all__ = ["best"]


def best(
    source: SourceLike,
    target: str | Path,
    *,
    by: str | Sequence[str],
    reward: str = "reward",
    prompt: str | None = None,
    completion: str | None = None,
    n: int = 1,
    keep: str = "all",
    chat: bool = False,
) -> Written:
    """Write the best completions of each group.

    Parameters
    ----------
    source, by, reward, prompt, completion, chat
        As `gspo_rs.files.pairs.pairs`.
    target : path
        The file to write: ``.parquet``, ``.jsonl`` or ``.ndjson``. An old one is replaced.
    n : int
        How many of each group; fewer, where fewer have a reward. Of tied ones, the first.
    keep : str
        Rules of `gspo_rs.files.keep` that a row has to pass as well, such as
        ``pass-rate:0.1..0.9``.

    Returns
    -------
    Written

    Raises
    ------
    ValueError, TypeError, OSError
        As `gspo_rs.files.pairs.pairs`.

    Notes
    -----
    The columns are those of TRL's prompt-completion type, ``prompt`` and ``completion``, then
    ``reward``. Rows stay in their order. Memory grows with the ids and rewards, about 40 bytes a
    row, and not with the texts.

    Examples
    --------
    >>> import tempfile
    >>> rows = {"prompt": ["1+1="] * 3, "response": ["3", "2", "?"], "reward": [0, 1, None]}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "best.parquet"
    ...     written = best(pl.DataFrame(rows), file, by="prompt")
    ...     pl.read_parquet(file).rows()
    [('1+1=', '2', 1.0)]
    """
    located = locate(source)
    path = checked_target(target, located)
    rules = (*parse(keep), *parse(f"best:{as_count('n', n, lowest=1)}"))
    columns = texts(located, prompt, completion, chat=chat)
    narrow = read_narrow(located, by, reward)
    kept = choose(narrow.rewards, narrow.groups, rules)
    wanted = np.flatnonzero(kept.mask)

    def frames() -> Iterator[pl.DataFrame]:
        for part, frame in picked(located, narrow, columns, reward, wanted):
            refuse_null(located, frame["prompt"], wanted[part], "prompt")
            refuse_null(located, frame["completion"], wanted[part], "completion")
            yield frame

    with located.reading():
        schema = located.frame.select(columns).collect_schema()
    rows = write_frames(frames(), pl.Schema({**schema, "reward": pl.Float64()}), path)
    groups = len(np.unique(narrow.groups.codes[wanted]))
    return Written(rows=rows, groups=groups, dropped=kept.dropped)
