"""Random rewards and ids, and the many types, containers and layouts they may come in."""

from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa

SIZES = (0, 1, 2, 7, 1000, 65537)
KINDS = (
    "quarters",
    "normal",
    "subnormal",
    "extreme",
    "constant",
    "close",
    "zeros",
    "logarithmic",
    "binary",
)


def draw_rewards(rng, n, kind=None):
    """Rewards of one kind, with NaN and both zeros among them."""
    kind = kind or rng.choice(KINDS)
    if kind == "quarters":
        found = rng.integers(0, 4, n) / 4
    elif kind == "normal":
        found = rng.normal(size=n)
    elif kind == "subnormal":
        found = rng.integers(-3, 4, n) * 5e-324
    elif kind == "extreme":
        found = rng.choice([-1e308, 1e308, 0.0, 1.0, -1e-308], n)
    elif kind == "constant":
        found = np.full(n, rng.choice([0.95, 1e308, -5e-324, 0.1]))
    elif kind == "close":
        found = 1e9 + rng.integers(0, 3, n) * 1e-6
    elif kind == "zeros":
        found = rng.choice([0.0, -0.0, 1.0], n)
    elif kind == "logarithmic":
        found = np.ldexp(rng.normal(size=n), rng.integers(-1060, 1015, n))
    else:
        found = rng.integers(0, 2, n).astype(float)
    missing = rng.random(n) < rng.choice([0.0, 0.1, 0.9])
    return np.where(missing, np.nan, found)


def strided(values):
    return np.repeat(values, 2, axis=0)[::2]


def backwards(values):
    return values[::-1].copy()[::-1]


def offset(values):
    return np.concatenate([values[:1], values])[1:] if len(values) else values


def frozen(values):
    found = values.copy()
    found.flags.writeable = False
    return found


def in_chunks(series):
    third = len(series) // 3
    return pl.concat([series[:third], series[third:]], rechunk=False)


REWARDS_AS: dict[str, Any] = {
    "array": lambda r: r,
    "strided": strided,
    "backwards": backwards,
    "offset": offset,
    "frozen": frozen,
    "list": lambda r: [None if np.isnan(x) else x for x in r.tolist()],
    "polars": lambda r: pl.Series(r).fill_nan(None),
    "polars in chunks": lambda r: in_chunks(pl.Series(r).fill_nan(None)),
    "arrow": lambda r: pa.array(r, from_pandas=True),
}


def arrow_in_chunks(ids):
    half = len(ids) // 2
    return pa.chunked_array([pa.array(ids[:half]), pa.array(ids[half:])])


def words(ids):
    return [f"group {i}" for i in ids.tolist()]


def dictionaries(ids):
    """Two chunks, each with a dictionary of its own."""
    half = len(ids) // 2
    text = [pa.array(words(part), pa.string()) for part in (ids[:half], ids[half:])]
    return pa.chunked_array([part.dictionary_encode() for part in text])


def binary(ids, kind):
    """Four bytes each, some of them zero."""
    return pa.array([int(i).to_bytes(4, "little") for i in ids], kind)


IDS_AS: dict[str, Any] = {
    **{
        name: lambda i, name=name: i.astype(name)
        for name in ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
    },
    "strided": strided,
    "backwards": backwards,
    "offset": offset,
    "frozen": frozen,
    "list of ints": lambda i: i.tolist(),
    "list of words": words,
    "list of bytes": lambda i: [word.encode() for word in words(i)],
    "fixed width": lambda i: i.astype("U4"),
    "fixed bytes": lambda i: i.astype("S4"),
    "objects": lambda i: np.array(words(i), dtype=object),
    "days": lambda i: i.astype("M8[D]"),
    "durations": lambda i: i.astype("m8[ns]"),
    "polars words": lambda i: pl.Series(words(i), dtype=pl.String),
    "polars in chunks": lambda i: in_chunks(pl.Series(i).cast(pl.String)),
    "categorical": lambda i: pl.Series(i).cast(pl.String).cast(pl.Categorical),
    "enum": lambda i: pl.Series(i).cast(pl.String).cast(pl.Enum([str(k) for k in range(100)])),
    "dates": lambda i: pl.Series(i).cast(pl.Int32).cast(pl.Date),
    "times": lambda i: pl.Series(i).cast(pl.Datetime("ms")),
    "columns": lambda i: pl.DataFrame({"a": i // 3, "b": pl.Series(i % 3).cast(pl.String)}),
    "struct": lambda i: pl.DataFrame({"a": i // 7, "b": i % 7}).to_struct("key"),
    "arrow in chunks": arrow_in_chunks,
    "arrow slice": lambda i: pa.array(np.concatenate([[77], i])).slice(1),
    "dictionaries": dictionaries,
    "string views": lambda i: pa.array(words(i), pa.string_view()),
    "large strings": lambda i: pa.array(words(i), pa.large_string()),
    "binary": lambda i: binary(i, pa.binary()),
    "binary views": lambda i: binary(i, pa.binary_view()),
    "fixed binary": lambda i: binary(i, pa.binary(4)),
    "arrow table": lambda i: pa.table({"a": i % 2, "b": i // 2}),
}


class Case(NamedTuple):
    """Rollouts: ids, -1 where null, and k rewards, as given and as they are."""

    ids: Any
    rewards: Any
    lengths: Any
    given_ids: Any
    reward_as: str

    @property
    def n(self):
        return len(self.ids)

    def given(self, rewards):
        """`rewards` in the container of this case; two-dimensional ones stay arrays."""
        given_as = "strided" if rewards.ndim == 2 else self.reward_as
        return REWARDS_AS[given_as](rewards)

    def groups(self):
        """The rows of each group."""
        order = np.argsort(self.ids, kind="stable")
        order = order[self.ids[order] >= 0]
        borders = np.flatnonzero(np.diff(self.ids[order])) + 1
        return np.split(order, borders) if len(order) else []


def draw_case(rng, n, kind=None, n_groups=None):
    """A case of `n` rows; large ones come in the containers that do not take a second."""
    n_groups = n_groups or rng.choice([1, 2, 7, 100])
    ids = rng.integers(0, n_groups, n)
    if rng.random() < 0.3:
        ids.sort()
    rewards = np.stack([draw_rewards(rng, n, kind) for _ in range(3)], axis=1)
    lengths = rng.integers(1, 5000, n)
    ids_as, reward_as = rng.choice(list(IDS_AS)), rng.choice(list(REWARDS_AS))
    if n and rng.random() < 0.1:
        ids[rng.random(n) < 0.2] = -1
        text = pl.Series(ids, dtype=pl.Int64)
        given = text.to_frame("id").select(pl.when(text >= 0).then(text)).to_series()
        return Case(ids, rewards, lengths, given, reward_as)
    return Case(ids, rewards, lengths, IDS_AS[ids_as](ids), reward_as)
