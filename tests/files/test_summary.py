"""Numbers about data sets, against pandas."""

import json
from math import comb

import numpy as np
import pandas as pd
import polars as pl
import pytest

from gspo_rs.files.summary import QUANTILES, summarize

FILES = ["rg_easy", "rg_policy3", "wmt21_ted_zhen_mqm", "tot_game24_200", "qwen_math_rm8"]


def by_pandas(frame, threshold):
    groups = frame.groupby("prompt_id", sort=False)["reward"]
    size, scored = groups.size(), groups.count()
    chances = {}
    right = frame["reward"].ge(threshold or 0).groupby(frame["prompt_id"], sort=False).sum()
    mean = groups.transform("mean")
    alike = frame.dropna(subset="reward").groupby(["prompt_id", "reward"]).size()
    pairs = (scored * (scored - 1)).sum()
    k = 1
    while threshold is not None and (scored >= k).mean() >= 0.5:
        chances[k] = np.mean(
            [1 - comb(n - c, k) / comb(n, k) for n, c in zip(scored, right, strict=True) if n >= k]
        )
        k *= 2
    return {
        "rows": len(frame),
        "unscorable": int(frame["reward"].isna().sum()),
        "groups": len(size),
        "size": [size.min(), size.median(), size.max()],
        "informative": (groups.max() > groups.min()).mean(),
        "ties": (alike * (alike - 1)).sum() / pairs if pairs else np.nan,
        "mean": frame["reward"].mean(),
        "std": frame["reward"].std(),
        "quantiles": frame["reward"].quantile(list(QUANTILES)).tolist(),
        "within": (frame["reward"] - mean).pow(2).mean(),
        "between": mean[frame["reward"].notna()].var(ddof=0),
        "pass_at_k": chances,
    }


@pytest.mark.parametrize("file", FILES)
def test_every_number_of_a_real_file_and_its_parts_is_that_of_pandas(shared, file):
    source = shared / f"data/{file}.parquet"
    frame = pd.read_parquet(source, columns=["prompt_id", "reward", "source"])
    found = summarize(source, by="prompt_id", per="source")
    threshold = 0.5 if frame["reward"].dropna().isin([0, 1]).all() else None
    values = sorted(frame["source"].unique())
    assert [summary.part for summary in found] == [None, *values]
    for summary in found:
        rows = frame if summary.part is None else frame[frame["source"] == summary.part]
        expected = by_pandas(rows, threshold)
        for name, number in expected.items():
            value = getattr(summary, name)
            if isinstance(number, float) and np.isnan(number):
                assert value is None, name
            else:
                assert value == pytest.approx(number, rel=1e-9, abs=1e-12), name
        assert json.loads(json.dumps(summary.to_dict()))["groups"] == expected["groups"]


def test_without_rewards_there_are_no_numbers_of_them():
    frame = pl.DataFrame({"id": [1, 1, 2], "reward": [None, None, None]}).cast(
        {"reward": pl.Float64}
    )
    (found,) = summarize(frame, by="id")
    assert (found.rows, found.unscorable, found.groups, found.size) == (3, 3, 2, [1, 1.5, 2])
    assert found.informative == 0
    assert found.pass_at_k == {}
    for name in ("ties", "mean", "std", "quantiles", "within", "between"):
        assert getattr(found, name) is None


def test_parts_may_be_null_and_one_row_has_no_deviation():
    frame = pl.DataFrame({"id": [1, 1, 2], "reward": [0.0, 1.0, 1.0], "part": [None, 7, 7]})
    whole, null, seven = summarize(frame, by="id", per="part", threshold=1.0)
    assert [whole.part, null.part, seven.part] == [None, None, "7"]
    assert (null.mean, null.std, null.within, null.between) == (0.0, None, 0.0, 0.0)
    assert seven.pass_at_k == {1: 1.0}
    assert whole.pass_at_k == {1: 0.75, 2: 1.0}
    with pytest.raises(ValueError, match="no column 'prat'; did you mean 'part'"):
        summarize(frame, by="id", per="prat")
