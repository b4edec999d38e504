"""The rivals of `bench_calls.py`: what one would write in place of a call, for rewards (P, G).

Each formula is written for NumPy and for PyTorch, over a matrix whose rows are groups of one size.
Scattered rows are first brought together by sorting their ids, and the results are scattered back:
shorter than `unique` and `bincount`, which take part too where a formula is made of means. Polars
has window expressions, pandas `groupby`. Constant tables are computed once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import torch

Formula = Callable[..., Any]
TAU, Q, K, DRAWS, EPS = 0.5, 0.2, 0.4, 2, 1e-6


def numpy_mean(m: np.ndarray) -> np.ndarray:
    return m.mean(1, keepdims=True)


def torch_mean(m: torch.Tensor) -> torch.Tensor:
    return m.mean(1, keepdim=True)


def mean_of(m: Any) -> Any:
    return torch_mean(m) if isinstance(m, torch.Tensor) else numpy_mean(m)


def std_of(m: Any) -> Any:
    if isinstance(m, torch.Tensor):
        return m.std(1, keepdim=True)
    return m.std(1, ddof=1, keepdims=True)


def std_of_all(m: Any) -> Any:
    return m.std() if isinstance(m, torch.Tensor) else m.std(ddof=1)


def mean(m: Any) -> Any:
    return m - mean_of(m)


def rloo(m: Any) -> Any:
    size = m.shape[1]
    return (m - mean_of(m)) * (size / (size - 1))


def zscore(m: Any, eps: float = EPS) -> Any:
    return (m - mean_of(m)) / (std_of(m) + eps)


def batch_std(m: Any) -> Any:
    return (m - mean_of(m)) / (std_of_all(m) + 1e-4)


def reinforce_pp(m: Any) -> Any:
    centred = m - mean_of(m)
    return centred / (std_of_all(centred) + 1e-8)


def maxrl(m: Any) -> Any:
    # Of a mean of 0, all rewards are 0.
    centre = mean_of(m)
    if isinstance(m, torch.Tensor):
        return torch.where(centre > 0, m / centre - 1, 0.0)
    right = centre > 0
    return np.where(right, m / np.where(right, centre, 1) - 1, 0.0)


def quantile(m: Any) -> Any:
    if isinstance(m, torch.Tensor):
        return (m - m.quantile(K, dim=1, keepdim=True)) / (std_of(m) + EPS)
    return (m - np.quantile(m, K, axis=1, keepdims=True)) / (std_of(m) + EPS)


def opo(m: Any, lengths: Any) -> Any:
    if isinstance(m, torch.Tensor):
        return m - (m * lengths).sum(1, keepdim=True) / lengths.sum(1, keepdim=True)
    return m - (m * lengths).sum(1, keepdims=True) / lengths.sum(1, keepdims=True)


def compared(m: Any) -> tuple[Any, Any]:
    """Count how many of its group each member beats, and by how many it is beaten."""
    beats = m[:, :, None] > m[:, None, :]
    return beats.sum(2), beats.sum(1)


def percentile_of(m: Any) -> Any:
    wins, losses = compared(m)
    return 0.5 + (wins - losses) * (0.5 / (m.shape[1] - 1))


def rank(m: Any) -> Any:
    wins, losses = compared(m)
    return (wins - losses) * 0.5 + (m.shape[1] + 1) / 2


def margin(m: Any, scale: float) -> Any:
    wins, losses = compared(m)
    return (wins - losses) * (scale / (m.shape[1] - 1))


def percentile(m: Any) -> Any:
    size = m.shape[1]
    return margin(m, (3 * (size - 1) / (size + 1)) ** 0.5)


def gopo(m: Any) -> Any:
    return margin(m, 2.0)


def top_fraction(m: Any) -> Any:
    wins, losses = compared(m)
    size = m.shape[1]
    return ((Q * size - losses) / (size - wins - losses)).clip(0, 1) - Q


@lru_cache
def normal_table(size: int) -> np.ndarray:
    scores = [NormalDist().inv_cdf(k / (size + 1)) for k in range(1, size + 1)]
    return np.cumsum([0.0, *scores])


@lru_cache
def normal_tensor(size: int) -> torch.Tensor:
    return torch.from_numpy(normal_table(size)).float()


def normal(m: Any) -> Any:
    wins, losses = compared(m)
    size = m.shape[1]
    table = normal_tensor(size) if isinstance(m, torch.Tensor) else normal_table(size)
    upper = size - losses
    return (table[upper] - table[wins]) / (upper - wins)


def soft_winrate(m: Any) -> Any:
    tanh = torch.tanh if isinstance(m, torch.Tensor) else np.tanh
    return tanh((m[:, :, None] - m[:, None, :]) * (0.5 / TAU)).sum(2) / (m.shape[1] - 1)


def best_minus_second(m: Any) -> Any:
    if isinstance(m, torch.Tensor):
        two, places = m.topk(2, dim=1)
        found = torch.zeros_like(m)
        return found.scatter_(1, places[:, :1], two[:, :1] - two[:, 1:])
    found, places = np.zeros_like(m), m.argmax(1)
    two = np.partition(m, -2, axis=1)[:, -2:]
    found[np.arange(len(m)), places] = two[:, 1] - two[:, 0]
    return found


def pass_at_k(m: Any) -> Any:
    library = torch if isinstance(m, torch.Tensor) else np
    size, right = m.shape[1], m >= 0.5
    c = right.sum(1)[:, None]
    rho = 1 - (size - c) * (size - c - 1) / (size * (size - 1))
    inside = (rho > 0) & (rho < 1)
    good = library.where(inside, ((1 - rho) / library.where(inside, rho, 0.5)) ** 0.5, 0.0)
    bad = library.where(inside, -c / library.where(inside, size - c, 1) * good, 0.0)
    return library.where(right, good, bad)


def pkpo(m: Any) -> Any:
    """Add up the better of each pair: over all pairs for small groups, else in sorted order."""
    size = m.shape[1]
    pairs = size * (size - 1) / 2
    if isinstance(m, torch.Tensor):
        prefers = m.amax(1, keepdim=True) > m.amin(1, keepdim=True)
        found = (torch.maximum(m[:, :, None], m[:, None, :]).sum(2) - m) / pairs
        return torch.where(prefers, found, 0.0)
    prefers = m.max(1, keepdims=True) > m.min(1, keepdims=True)
    if size <= 16:
        found = (np.maximum(m[:, :, None], m[:, None, :]).sum(2) - m) / pairs
    else:
        order = m.argsort(1)
        rising = np.take_along_axis(m, order, 1)
        above = rising[:, ::-1].cumsum(1)[:, ::-1] - rising
        found = np.empty_like(m)
        np.put_along_axis(found, order, (np.arange(size) * rising + above) / pairs, 1)
    return np.where(prefers, found, 0.0)


def gdpo(m: Any) -> Any:
    """Standardise the sum of one z-score per reward; `m` has shape (k, P, G)."""
    total = zscore(m[0], 1e-8) + zscore(m[1], 1e-8)
    return total / (std_of_all(total) + 1e-8)


def borda(m: Any) -> Any:
    return margin(m[0], 1.0) + margin(m[1], 1.0)


# Task → formula; the first two are functions of their own, the others estimators of `advantage`.
FORMULAS: dict[str, Formula] = {
    "rank()": rank,
    "percentile()": percentile_of,
    **{f.__name__: f for f in (percentile, top_fraction, normal, soft_winrate, gopo, mean, rloo)},
    **{f.__name__: f for f in (zscore, batch_std, reinforce_pp, quantile, maxrl)},
    **{f.__name__: f for f in (best_minus_second, pass_at_k, pkpo, opo, gdpo, borda)},
}
SEVERAL = ("gdpo", "borda")
RANKS = ("rank()", "percentile()", "percentile", "top_fraction", "normal", "gopo", "borda")


def dense(formula: Formula, size: int, rewards: Any, *more: Any) -> Any:
    """Compute over consecutive rows, `size` to a group; several rewards have shape (n, k)."""
    if rewards.ndim == 2:
        return formula(rewards.T.reshape(rewards.shape[1], -1, size)).reshape(-1)
    return formula(rewards.reshape(-1, size), *(one.reshape(-1, size) for one in more)).reshape(-1)


def without_ids(formula: Formula, size: int, _: Any, *given: Any) -> Any:
    return dense(formula, size, *given)


def through_numpy(rival: Callable[..., Any]) -> Callable[..., pl.Series]:
    """Let a rival of NumPy take and return Series; it gets ids that are strings as they are."""

    def called(ids: pl.Series, *given: pl.Series) -> pl.Series:
        plain = ids if ids.dtype == pl.String else ids.to_numpy()
        return pl.Series(rival(plain, *(one.to_numpy() for one in given)))

    return called


def by_sorting(formula: Formula, size: int, ids: Any, rewards: Any, *more: Any) -> Any:
    """Bring scattered groups of one size together by sorting their ids, and back."""
    order = ids.argsort()
    found = dense(formula, size, rewards[order], *(one[order] for one in more))
    back = torch.empty_like(found) if isinstance(found, torch.Tensor) else np.empty_like(found)
    back[order] = found
    return back


def coded(ids: list[str]) -> list[int]:
    """Number strings by a dictionary."""
    known: dict[str, int] = {}
    return [known.setdefault(one, len(known)) for one in ids]


def by_codes(formula: Formula, size: int, ids: list[str], rewards: Any, *more: Any) -> Any:
    """Bring groups together whose ids are strings in a list."""
    codes = coded(ids)
    whole = torch.tensor(codes) if isinstance(rewards, torch.Tensor) else np.array(codes)
    return by_sorting(formula, size, whole, rewards, *more)


def by_category(formula: Formula, size: int, ids: pl.Series, rewards: Any, *more: Any) -> Any:
    """Bring groups together whose ids are strings in Polars."""
    codes = ids.cast(pl.Categorical).to_physical().to_numpy()
    return by_sorting(formula, size, codes, rewards, *more)


def sums(task: str, ids: np.ndarray, rewards: np.ndarray) -> np.ndarray:
    """Compute what is made of means with `unique` and `bincount`, for groups of any sizes."""
    _, codes = np.unique(ids, return_inverse=True)
    size = np.bincount(codes)
    centred = rewards - (np.bincount(codes, rewards) / size)[codes]
    if task == "rloo":
        return centred * (size / (size - 1))[codes]
    if task == "zscore":
        variance = np.bincount(codes, centred * centred) / (size - 1)
        return centred / (np.sqrt(variance) + EPS)[codes]
    return centred


def index_add(task: str, ids: torch.Tensor, rewards: torch.Tensor) -> torch.Tensor:
    """Compute the same with `index_add`."""
    _, codes = torch.unique(ids, return_inverse=True)
    size = torch.bincount(codes).to(rewards.dtype)
    zeros = torch.zeros_like(size)
    centred = rewards - (zeros.index_add(0, codes, rewards) / size)[codes]
    if task == "rloo":
        return centred * (size / (size - 1))[codes]
    if task == "zscore":
        variance = zeros.index_add(0, codes, centred * centred) / (size - 1)
        return centred / (variance.sqrt() + EPS)[codes]
    return centred


def expression(task: str) -> pl.Expr | None:
    """Return the expression of Polars for `task` of `reward` over `id`, where there is one."""
    reward, size = pl.col("reward"), pl.len()
    centred = reward - reward.mean()
    found = {
        "rank()": reward.rank("average"),
        "percentile()": (reward.rank("average") - 1) / (size - 1),
        "gopo": (2 * reward.rank("average") - size - 1) * 2 / (size - 1),
        "mean": centred,
        "rloo": centred * size / (size - 1),
        "zscore": centred / (reward.std() + EPS),
        "quantile": (reward - reward.quantile(K, "linear")) / (reward.std() + EPS),
    }.get(task)
    return None if found is None else found.over("id")


def window(over: pl.Expr, ids: pl.Series, rewards: pl.Series) -> pl.Series:
    return pl.DataFrame({"id": ids, "reward": rewards}).select(over).to_series()


def transform(task: str, ids: Any, rewards: Any) -> np.ndarray:
    """Compute `task` in pandas."""
    column = pd.Series(rewards)
    groups = column.groupby(ids, sort=False)
    if task == "rank()":
        return groups.rank("average").to_numpy()
    if task == "percentile()":
        return ((groups.rank("average") - 1) / (groups.transform("size") - 1)).to_numpy()
    centred = column - groups.transform("mean")
    found = centred / (groups.transform("std") + EPS) if task == "zscore" else centred
    return found.to_numpy()


def rivals(task: str, size: int, kind: str, library: str) -> dict[str, Callable[..., Any]]:
    """Return the rivals for ids of a `kind` (``""`` without ids), called as `(ids, rewards, …)`."""
    formula = FORMULAS[task]
    name = "torch" if library == "torch" else "NumPy"
    if not kind:
        whole = partial(without_ids, formula, size)
        return {name: through_numpy(whole) if library == "Polars" else whole}
    bring = by_sorting
    if kind == "string":
        bring = by_category if library == "Polars" else by_codes
    found: dict[str, Callable[..., Any]] = {f"{name}, sorted": partial(bring, formula, size)}
    if library == "Polars":
        found = {one: through_numpy(rival) for one, rival in found.items()}
    if kind == "int64" and task in ("mean", "rloo", "zscore"):
        found[f"{name}, sums"] = partial(index_add if library == "torch" else sums, task)
    if library == "Polars" and (over := expression(task)) is not None:
        found["Polars"] = partial(window, over)
    if library == "NumPy" and task in ("rank()", "percentile()", "mean", "zscore"):
        found["pandas"] = partial(transform, task)
    return found
