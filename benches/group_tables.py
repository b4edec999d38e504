"""The tables of `bench_groups.py`: one reward per row and the ids that people have.

Kinds of ids: ``int64``; ``string``, a word and the number of the group; ``8``, ``16``, ``36`` and
``64``, strings of so many bytes (the last two look like UUIDs and SHA-256 digests); ``columns``,
three key columns (a name of a data set, a UUID of a prompt and an integer); ``categorical``. With
the layout ``lists`` a row holds the rewards of a group, and there is no id.
"""

from __future__ import annotations

import numpy as np
import polars as pl

KINDS = ("int64", "string", "8", "16", "36", "64", "columns", "categorical")
DATA_SETS = ("gsm8k/train", "math/train", "aime", "code_contests/valid", "stories")


def table(rows: int, size: str, layout: str, ids: str) -> pl.DataFrame:
    """Make groups of `size` members, or of 2 to 62 if it is ragged; rewards have many ties."""
    rng = np.random.default_rng(0)
    if size == "ragged":
        sizes = rng.integers(2, 63, rows // 32)
    else:
        sizes = np.full(rows // int(size), int(size))
    codes = np.repeat(np.arange(len(sizes)), sizes)
    reward = pl.Series("reward", rng.integers(0, 11, len(codes)) / 10)
    if layout == "lists":
        lists = pl.DataFrame({"id": codes, "reward": reward})
        return lists.group_by("id", maintain_order=True).agg("reward").select("reward").rechunk()
    if layout == "shuffled":
        codes = codes[rng.permutation(len(codes))]
    return keys(codes, len(sizes), ids).with_columns(reward).rechunk()


def keys(codes: np.ndarray, n: int, ids: str) -> pl.DataFrame:
    """Name each of `n` groups, as `codes` say."""
    if ids == "int64":
        return pl.DataFrame({"id": codes})
    if ids == "string":
        return pl.DataFrame({"id": codes}).select(pl.format("prompt/{}", "id").alias("id"))
    if ids == "categorical":
        return pl.DataFrame({"id": spread(words(n, 36), codes)}).cast(pl.Categorical)
    if ids == "columns":
        data_set = pl.Series(DATA_SETS).gather(codes % len(DATA_SETS))
        # A prompt is in several data sets, and asked at two levels.
        prompt = spread(words(n // 4 + 1, 36), codes // 4)
        return pl.DataFrame({"data_set": data_set, "prompt": prompt, "level": codes // 2 % 2})
    return pl.DataFrame({"id": spread(words(n, int(ids)), codes)})


def words(n: int, width: int) -> pl.Series:
    """Make `n` different strings of `width` bytes in no order."""
    if width == 8:
        return pl.select(pl.format("p{}", pl.lit(pl.Series(range(n))).cast(str).str.zfill(7)))[:, 0]
    if width == 16:
        # Neither beginning nor end tells them apart.
        number = pl.lit(pl.Series(range(n))).cast(str).str.zfill(8)
        return pl.select(pl.format("train/{}/a", number))[:, 0]
    digits = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)
    drawn = digits[np.random.default_rng(width).integers(0, 16, (n, width), dtype=np.uint8)]
    if width == 36:
        drawn[:, [8, 13, 18, 23]] = ord("-")
    return pl.Series(drawn.view(f"S{width}").ravel().astype(object), dtype=pl.Binary).cast(str)


def spread(words: pl.Series, codes: np.ndarray) -> pl.Series:
    """Give each row its own copy of its word, in the order of the rows, as a file's reader does."""
    own = words.gather(codes).to_arrow(compat_level=pl.CompatLevel.oldest())
    return pl.from_arrow(own)
