"""The `gspo` namespace on real files: one digest per file, whichever way it is read."""

import hashlib
from itertools import pairwise

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

import gspo_rs as gs
import gspo_rs.polars

REWARD = pl.col("reward")
ROWS = ["rank", "percentile", "advantage"]
STATS = ["size", "scored", "mean", "std", "min", "max", "median", "distinct", "informative"]
KEYS = {
    "gsm8k_solutions4": ["prompt_id"],
    "llama3b_amc_aime50": ["prompt_id"],
    "qwen_math_rm8": ["prompt_id"],
    "rg_easy": ["prompt_id"],
    "rg_policy3": ["source", "prompt_id"],
    "tot_game24_200": ["prompt_id"],
    "wildbench_judge10": ["prompt_id", "judge"],
    "wmt21_ted_zhen_mqm": ["prompt_id"],
}


def digest(arrays):
    """Hash numbers by their bits; null and any NaN are one thing."""
    found = hashlib.sha256()
    for array in arrays:
        numbers = np.asarray(array, dtype=np.float64)
        found.update(np.where(np.isnan(numbers), np.nan, numbers).tobytes())
    return found.hexdigest()


def by_numpy(path, keys):
    """Read by pyarrow; several keys become one tuple of them, told apart by its text."""
    table = pq.read_table(path, columns=[*keys, "reward"])
    ids = [table[key].to_pylist() for key in keys]
    ids = ids[0] if len(keys) == 1 else [repr(key) for key in zip(*ids, strict=True)]
    rewards, groups = table["reward"].to_numpy(), gs.Groups(ids)
    rows = [function(rewards, groups) for function in (gs.rank, gs.percentile, gs.advantage)]
    stats = gs.stats(rewards, groups)
    return digest([*rows, *(getattr(stats, name) for name in STATS)])


def by_polars(frame, keys, engine=None):
    score = frame.select(REWARD.gspo.score(by=keys).alias("score")).unnest("score")
    stats = frame.gspo.stats(by=keys)
    if engine:
        score, stats = score.collect(engine=engine), stats.collect(engine=engine)
    return digest([*score.select(ROWS).get_columns(), *stats.select(STATS).get_columns()])


@pytest.mark.parametrize("name", KEYS)
def test_a_file_has_one_digest_however_it_is_read(shared, name):
    path, keys = shared / "data" / f"{name}.parquet", KEYS[name]
    expected = by_numpy(path, keys)
    assert by_polars(pl.read_parquet(path, columns=[*keys, "reward"]), keys) == expected
    assert by_polars(pl.scan_parquet(path), keys, "in-memory") == expected
    assert by_polars(pl.scan_parquet(path), keys, "streaming") == expected


def test_every_file_with_rewards_has_a_digest_here(shared):
    files = (shared / "data").glob("*.parquet")
    assert {f.stem for f in files if "reward" in pl.read_parquet_schema(f)} == set(KEYS)


@pytest.mark.parametrize("lazy", [False, True])
def test_rollouts_of_a_frame_are_its_groups_whole_and_in_order(shared, lazy):
    path = shared / "data" / "rg_policy3.parquet"
    frame = pl.read_parquet(path).head(4_000)
    source = frame.lazy() if lazy else frame
    batches = source.gspo.rollouts(by="prompt_id", completion="response", batch_groups=100)
    expected = frame.group_by("prompt_id", maintain_order=True).agg("response", "reward").rows()
    found = []
    for batch in batches:
        assert batch.n_groups <= 100
        for group, (start, end) in zip(batch.group_ids, pairwise(batch.offsets), strict=True):
            found.append((group, batch.completions[start:end], batch.reward[start:end].tolist()))
    assert found == expected
