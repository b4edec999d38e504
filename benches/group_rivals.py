"""The contenders of `bench_groups.py`: each computes one task for every row, in row order.

Four tasks: ``all`` (mean, deviation, rank, percentile and z-score), ``score`` (what the method of
that name returns), ``zscore`` and ``percentile`` alone. A contender takes a frame of key columns
and ``reward``, or of lists of rewards alone, and returns the columns of the task. verl's own
function takes part where verl is installed. The loop in plain Python is ours: it does what
trainers do that gather the rewards of a prompt in a dictionary, as verl does. So is the expression
over equal groups: the arithmetic of TRL, which has it inside of its trainer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import torch

import gspo_rs as gs
import gspo_rs.polars  # its namespace
from gspo_rs.groups.estimators import resolve

EPS = 1e-6
Result = dict[str, np.ndarray]
Contender = Callable[[pl.DataFrame], Result]
TASKS = {
    "all": ["mean", "std", "rank", "percentile", "zscore"],
    "score": ["rank", "percentile", "advantage", "size", "mean", "std"],
    "zscore": ["zscore"],
    "percentile": ["percentile"],
}
NEEDS = {
    "all": ["mean", "std", "rank", "size"],
    "score": ["mean", "std", "rank", "size"],
    "zscore": ["mean", "std"],
    "percentile": ["rank", "size"],
}


def key_columns(frame: pl.DataFrame | pd.DataFrame) -> list[str]:
    return [name for name in frame.columns if name != "reward"]


def ours(frame: pl.DataFrame, task: str) -> Result:
    columns = {
        "size": "group_size",
        "mean": "group_mean",
        "std": "group_std",
        "rank": ("rank", {"method": "average"}),
        "percentile": "percentile",
        "advantage": ("advantage", {"estimator": "percentile", **resolve("percentile", {})}),
        "zscore": ("advantage", {"estimator": "zscore", "ddof": 1, "eps": EPS}),
    }
    wanted = [columns[name] for name in TASKS[task]]
    reward, keys = frame["reward"], key_columns(frame)
    if keys:
        groups = gs.Groups(frame[keys[0]] if len(keys) == 1 else frame.select(keys))
    else:
        groups = gs.Groups.from_offsets(np.append(0, reward.list.len().cast(int).cum_sum()))
        reward = reward.explode()
    found = gs.rows(reward, groups, wanted)
    return dict(zip(TASKS[task], found, strict=True))


def namespace(frame: pl.DataFrame, task: str) -> Result:
    """Ask for the same on a column of Polars."""
    by = key_columns(frame) or None
    reward = pl.col("reward").gspo
    if task == "percentile":
        return {"percentile": flat(frame.select(reward.percentile(by=by))["reward"])}
    if task == "zscore":
        return {"zscore": flat(frame.select(reward.advantage("zscore", by=by))["reward"])}
    estimator, name = ("zscore", "zscore") if task == "all" else ("percentile", "advantage")
    scores = frame.select(reward.score(by=by, estimator=estimator))["reward"].struct
    fields = {"size": "group_size", "mean": "group_mean", "std": "group_std", name: "advantage"}
    found = {name: flat(scores.field(fields.get(name, name))) for name in TASKS[task]}
    if by is None:  # what members of a list share is there once
        lengths = frame["reward"].list.len()
        found |= {k: np.repeat(found[k], lengths) for k in ("size", "mean", "std") if k in found}
    return found


def flat(series: pl.Series) -> np.ndarray:
    return (series.explode() if series.dtype == pl.List else series).to_numpy()


def polars(frame: pl.DataFrame, task: str, engine: str) -> Result:
    """Compute each window once, in a step of its own: Polars takes twice as long in one step."""
    keys = key_columns(frame)
    if not keys:
        frame, keys = frame.with_row_index("id").explode("reward"), ["id"]
    reward = pl.col("reward")
    windows = {"mean": reward.mean(), "std": reward.std(), "rank": reward.rank("average")}
    windows["size"] = pl.len()
    needed = [windows[name].over(keys).alias(name) for name in NEEDS[task]]
    columns = {
        "percentile": (pl.col("rank") - 1) / (pl.col("size") - 1),
        "zscore": (reward - pl.col("mean")) / (pl.col("std") + EPS),
    }
    size = pl.col("size").cast(pl.Int64)
    columns["advantage"] = (2 * columns["percentile"] - 1) * (3 * (size - 1) / (size + 1)).sqrt()
    wanted = [columns.get(name, pl.col(name)).alias(name) for name in TASKS[task]]
    lazy = frame.lazy().with_columns(needed).select(wanted)
    return {series.name: series.to_numpy() for series in lazy.collect(engine=engine)}


def duck(frame: pl.DataFrame, task: str) -> Result:
    keys = ", ".join(key_columns(frame))
    ties = f"(count(*) over (partition by {keys}, reward) - 1) / 2.0"
    windows = {
        "mean": "avg(reward) over g",
        "std": "stddev_samp(reward) over g",
        "rank": f"rank() over (partition by {keys} order by reward) + {ties}",
        "size": "count(*) over g",
    }
    columns = {
        "percentile": "(rank - 1) / (size - 1) as percentile",
        "advantage": "(2 * (rank - 1) / (size - 1) - 1) * sqrt(3 * (size - 1) / (size + 1))"
        " as advantage",
        "zscore": f"(reward - mean) / (std + {EPS}) as zscore",
    }
    needed = ", ".join(f"{windows[name]} as {name}" for name in NEEDS[task])
    wanted = ", ".join(columns.get(name, name) for name in TASKS[task])
    numbered = frame.with_row_index("row")  # DuckDB finds the frame by the name in the query
    inner = f"select row, reward, {needed} from numbered window g as (partition by {keys})"
    found = duckdb.sql(f"select {wanted} from ({inner}) order by row").fetchnumpy()
    del numbered
    return found


def pandas(frame: pd.DataFrame, task: str) -> Result:
    groups = frame.groupby(key_columns(frame), sort=False, observed=True)["reward"]
    found = {}
    if task != "percentile":
        found["mean"], found["std"] = groups.transform("mean"), groups.transform("std")
        found["zscore"] = (frame["reward"] - found["mean"]) / (found["std"] + EPS)
    if task != "zscore":
        found["rank"] = groups.rank("average")
        found["size"] = groups.transform("size")
        found["percentile"] = (found["rank"] - 1) / (found["size"] - 1)
    if task == "score":
        unit = (3 * (found["size"] - 1) / (found["size"] + 1)) ** 0.5
        found["advantage"] = (2 * found["percentile"] - 1) * unit
    return {name: found[name].to_numpy() for name in TASKS[task]}


def numpy(frame: pl.DataFrame, task: str) -> Result:
    reward = frame["reward"].to_numpy()
    _, codes = np.unique(flat_ids(frame), return_inverse=True)
    size = np.bincount(codes)
    found = {}
    if task != "percentile":
        mean = (np.bincount(codes, reward) / size)[codes]
        std = np.sqrt(np.bincount(codes, (reward - mean) ** 2) / (size - 1))[codes]
        found |= {"mean": mean, "std": std, "zscore": (reward - mean) / (std + EPS)}
    if task != "zscore":
        found["rank"] = numpy_ranks(reward, codes, size)
        found["size"] = size[codes]
        found["percentile"] = (found["rank"] - 1) / (found["size"] - 1)
    if task == "score":
        unit = np.sqrt(3 * (found["size"] - 1) / (found["size"] + 1))
        found["advantage"] = (2 * found["percentile"] - 1) * unit
    return {name: found[name] for name in TASKS[task]}


def numpy_ranks(reward: np.ndarray, codes: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Sort by group and reward; rows that tie share the mean of their places."""
    order = np.lexsort((reward, codes))
    sorted_codes, sorted_reward = codes[order], reward[order]
    new = np.ones(len(order), dtype=bool)
    new[1:] = np.diff(sorted_codes).astype(bool) | (np.diff(sorted_reward) != 0)
    starts = np.flatnonzero(new)
    lengths = np.diff(np.append(starts, len(order)))
    places = starts + (lengths + 1) / 2
    ranks = np.empty(len(order))
    ranks[order] = np.repeat(places, lengths) - (np.cumsum(size) - size)[sorted_codes]
    return ranks


def scatter(frame: pl.DataFrame) -> Result:
    """Sum into one place per group with `index_add`, as torch-scatter does."""
    reward = torch.from_numpy(frame["reward"].to_numpy(writable=True))
    if frame["id"].dtype == pl.String:
        codes = torch.from_numpy(np.unique(flat_ids(frame), return_inverse=True)[1])
    else:
        ids = torch.from_numpy(frame["id"].to_numpy(writable=True))
        codes = torch.unique(ids, return_inverse=True)[1]
    zeros = torch.zeros(int(codes.max()) + 1, dtype=torch.float64)
    size = zeros.index_add(0, codes, torch.ones_like(reward))
    centred = reward - (zeros.index_add(0, codes, reward) / size)[codes]
    std = (zeros.index_add(0, codes, centred**2) / (size - 1)).sqrt()[codes]
    return {"zscore": (centred / (std + EPS)).numpy()}


def equal_groups(frame: pl.DataFrame, size: int) -> Result:
    """View rows as a matrix, which is right only for clustered groups of one size."""
    reward = torch.from_numpy(frame["reward"].to_numpy(writable=True))
    matrix = reward.view(-1, size)
    mean = matrix.mean(dim=1).repeat_interleave(size)
    std = matrix.std(dim=1).repeat_interleave(size)
    return {"zscore": ((reward - mean) / (std + EPS)).numpy()}


def plain_loop(frame: pl.DataFrame) -> Result:
    """Gather rewards by id in a dictionary, then go through the rows one by one."""
    rewards = frame["reward"].to_list()
    ids = frame["id"].to_list()
    members = defaultdict(list)
    for key, reward in zip(ids, rewards, strict=True):
        members[key].append(reward)
    moments = {}
    for key, found in members.items():
        mean = sum(found) / len(found)
        variance = sum((reward - mean) ** 2 for reward in found) / (len(found) - 1)
        moments[key] = mean, variance**0.5 + EPS
    advantage = np.empty(len(ids))
    for row, (key, reward) in enumerate(zip(ids, rewards, strict=True)):
        mean, deviation = moments[key]
        advantage[row] = (reward - mean) / deviation
    return {"zscore": advantage}


def verl(frame: pl.DataFrame) -> Result:
    """Call verl's function for completions of one token, which carries the reward."""
    from verl.trainer.ppo.core_algos import compute_grpo_outcome_advantage

    reward = torch.from_numpy(frame["reward"].to_numpy(writable=True))[:, None]
    mask, ids = torch.ones_like(reward), frame["id"].to_numpy()
    advantage, _ = compute_grpo_outcome_advantage(reward, mask, ids, epsilon=EPS)
    return {"zscore": advantage[:, 0].numpy()}


def copying(frame: pl.DataFrame, task: str) -> Contender:
    """Copy as many bytes as the input and the output have: no contender can be faster."""
    given = np.ones(int(frame.estimated_size()), dtype=np.uint8)
    outputs = [np.ones(frame.height) for _ in TASKS[task]]
    return lambda _: {str(i): array.copy() for i, array in enumerate([given, *outputs])}


def flat_ids(frame: pl.DataFrame) -> np.ndarray:
    ids = frame["id"].to_numpy()
    return ids.astype("U") if ids.dtype == object else ids


def contenders(task: str, size: int | None, frame: pl.DataFrame) -> dict[str, Contender]:
    """Return those that can do `task` with such a frame.

    `size` is given for clustered groups of one size.
    """
    found: dict[str, Contender] = {
        "gspo_rs": partial(ours, task=task),
        "gspo_rs namespace": partial(namespace, task=task),
        "Polars in memory": partial(polars, task=task, engine="in-memory"),
        "Polars streaming": partial(polars, task=task, engine="streaming"),
    }
    keys = key_columns(frame)
    if keys:
        found |= {"DuckDB": partial(duck, task=task), "pandas": partial(pandas, task=task)}
    if keys != ["id"] or frame["id"].dtype == pl.Categorical:
        return found
    found["NumPy"] = partial(numpy, task=task)
    if task == "zscore":
        found |= {"torch index_add": scatter, "plain loop (as verl)": plain_loop}
        if find_spec("verl") is not None:
            found["verl"] = verl
        if size is not None:
            found["equal groups (as TRL)"] = partial(equal_groups, size=size)
    return found
