"""Whole groups out of files in any order, against Polars' own `group_by`."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gspo_rs import data
from gspo_rs.data import external_sort, group_stream, source

pytestmark = pytest.mark.slow


@st.composite
def scored(draw, max_rows=40):
    """A table of completions with ragged, scattered groups, and how it is cut into chunks."""
    n = draw(st.integers(1, max_rows))
    ids = draw(st.lists(st.integers(0, 6), min_size=n, max_size=n))
    if draw(st.booleans()):
        ids = sorted(ids)
    frame = pl.DataFrame(
        {
            "id": ids,
            "side": [f"s{key % 3}" for key in ids],
            "prompt": [f"p{key}" for key in ids],
            "completion": [f"c{row}" * (row % 4) for row in range(n)],
            "reward": draw(st.lists(st.sampled_from([0.0, 0.5, None]), min_size=n, max_size=n)),
        },
        schema_overrides={"reward": pl.Float64},
    )
    borders = sorted(draw(st.sets(st.integers(1, n), max_size=6)) | {n})
    starts = [0, *borders[:-1]]
    chunks = [frame[start:stop] for start, stop in zip(starts, borders, strict=True)]
    return pl.concat(chunks, rechunk=False)


def content(batches):
    """Every group: its id, its prompts, completions and rewards with None for NaN."""
    found = []
    for batch in batches:
        rewards = [None if np.isnan(reward) else reward for reward in batch.reward]
        for g, (start, stop) in enumerate(zip(batch.offsets, batch.offsets[1:], strict=False)):
            rows = slice(start, stop)
            texts = batch.prompts[rows], batch.completions[rows]
            found.append((batch.group_ids[g], *texts, rewards[rows]))
    return found


def oracle(frame, by="id"):
    names = ["prompt", "completion", "reward"]
    groups = frame.group_by(by, maintain_order=True).agg(names)
    keys = groups[by].to_list() if isinstance(by, str) else groups.select(by).rows()
    return [(key, *row) for key, row in zip(keys, groups.select(names).rows(), strict=True)]


@settings(deadline=None)
@given(scored(), st.integers(1, 5), st.sampled_from(["id", ["side", "id"]]))
def test_every_group_comes_once_with_all_its_rows_in_any_order_and_chunking(frame, size, by):
    batches = list(data.rollouts(frame, by=by, batch_groups=size))
    assert content(batches) == oracle(frame, by)
    assert {batch.n_groups for batch in batches[:-1]} <= {size}


@settings(deadline=None, max_examples=30)
@given(scored(), st.integers(1, 9), st.booleans())
def test_row_groups_files_and_a_tiny_memory_change_nothing(frame, row_group, shuffle):
    expected = content(data.rollouts(frame, by="id", shuffle=shuffle, seed=3))
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        half = frame.height // 2
        frame[:half].write_parquet(f"{folder}/a.parquet", row_group_size=row_group)
        frame[half:].write_parquet(f"{folder}/b.parquet", row_group_size=row_group)
        patch.setattr(source, "FIRST_WINDOW", 3)
        patch.setattr(source, "READ_AHEAD", 300)
        patch.setattr(external_sort, "FANOUT", 3)
        patch.setattr(
            group_stream,
            "sort_on_disk",
            lambda *a, **k: external_sort.sort_on_disk(*a, **k, budget=200),
        )
        found = data.rollouts(f"{folder}/*.parquet", by="id", shuffle=shuffle, seed=3)
        assert content(found) == expected


@settings(deadline=None)
@given(scored(), st.integers(0, 7), st.integers(1, 5), st.booleans())
def test_starting_later_gives_exactly_the_rest_of_the_groups(frame, start, size, shuffle):
    whole = content(data.rollouts(frame, by="id", shuffle=shuffle, seed=1))
    start = min(start, len(whole))
    rest = data.rollouts(frame, by="id", shuffle=shuffle, seed=1, start=start, batch_groups=size)
    assert content(rest) == whole[start:]


def test_a_seed_gives_one_random_order_and_another_seed_another():
    frame = pl.DataFrame({"id": range(100), "prompt": "p", "completion": "c", "reward": 1})
    order = {
        seed: [key for key, *_ in content(data.rollouts(frame, by="id", shuffle=True, seed=seed))]
        for seed in (0, 1)
    }
    again = content(data.rollouts(frame, by="id", shuffle=True, seed=0, batch_groups=7))
    assert [key for key, *_ in again] == order[0]
    assert sorted(order[0]) == sorted(order[1]) == list(range(100))
    assert order[0] != order[1] != list(range(100))
    # In a random order every distance between neighbours is likely; in runs few are.
    assert len(set(np.diff(order[0]).tolist())) > 50


@pytest.mark.parametrize(
    ("file", "by", "shuffle"),
    [
        ("rg_easy", "prompt_id", False),
        ("rg_easy", "prompt_id", True),
        ("rg_policy3", "prompt_id", False),
        ("rg_policy3", ["source", "prompt_id"], False),
    ],
)
def test_real_files_come_as_polars_groups_them(shared, file, by, shuffle):
    path = shared / f"data/{file}.parquet"
    frame = pl.read_parquet(path).rename({"response": "completion"})
    batches = data.rollouts(path, by=by, completion="response", shuffle=shuffle, batch_groups=500)
    found, expected = content(batches), oracle(frame, by)
    assert len(found) == len(expected)
    assert (found == expected) is not shuffle
    assert sorted(found, key=lambda group: group[0]) == sorted(expected, key=lambda group: group[0])


def test_null_prompts_are_refused_by_row_and_null_rewards_are_not_scored(shared):
    path = shared / "data/wmt21_ted_zhen_mqm.parquet"
    frame = pl.read_parquet(path)
    row = frame["prompt"].is_null().arg_max()
    with pytest.raises(ValueError, match=rf"'prompt' of .*wmt21.* is null at row {row}$"):
        next(data.rollouts(path, by="prompt_id", completion="response"))
    index = data.index_groups(path, by="prompt_id")
    assert (index.n_rollouts, index.n_groups, index.n_unscorable) == (12_645, 843, 4_710)
    assert index.n_uninformative == 336

    filled = frame.lazy().with_columns(pl.col("prompt").fill_null("?"))
    with pytest.raises(ValueError, match="'response' of the LazyFrame is null, though it has"):
        list(data.rollouts(filled, by="prompt_id", completion="response"))
    unrated = filled.filter(pl.col("reward").is_null())
    batch = next(data.rollouts(unrated, by="prompt_id", completion="response"))
    assert np.isnan(batch.reward).all()
    assert set(batch.completions) == {""}


MEMORY = """
import sys
from gspo_rs import data
batches = data.rollouts(sys.argv[1:], by="prompt_id", completion="response")
print(sum(batch.n_rollouts for batch in batches))
# Not getrusage, whose maximum is that of the parent process if that was larger.
status = open("/proc/self/status").read()
print(int(status.split("VmHWM:")[1].split()[0]) // 1024)
print("torch" in sys.modules)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
@pytest.mark.parametrize(("copies", "limit"), [(1, 300), (4, 550)])
def test_143_mb_of_text_or_scattered_572_take_a_fraction_of_it_in_memory(
    shared, tmp_path, copies, limit
):
    # Every group of the file goes on in each of its copies: a file itself is read but once.
    paths = [str(tmp_path / f"{copy}.parquet") for copy in range(copies)]
    for path in paths:
        Path(path).symlink_to(shared / "data/rg_easy.parquet")
    # Polars reads ahead by its number of threads.
    environment = {**os.environ, "POLARS_MAX_THREADS": "2"}
    command = [sys.executable, "-c", MEMORY, *paths]
    printed = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    n_rollouts, mebibytes, torch = printed.stdout.split()
    assert (int(n_rollouts), torch) == (136_900 * copies, "False")
    assert int(mebibytes) < limit


def test_no_temporary_file_is_left_when_the_reader_stops_or_fails(tmp_path):
    frame = pl.DataFrame({"id": [1, 2] * 50, "prompt": "p", "completion": "c", "reward": 1.0})
    bad = frame.with_columns(prompt=pl.when(pl.int_range(100) < 99).then("prompt"))
    batches = data.rollouts(frame, by="id", batch_groups=1, spill_directory=tmp_path)
    next(batches)
    assert list(tmp_path.iterdir()) == []
    batches.close()
    with pytest.raises(ValueError, match="null at row 99"):
        list(data.rollouts(bad, by="id", spill_directory=tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_lists_of_tokens_and_logprobs_come_with_their_rows():
    frame = pl.DataFrame(
        {
            "id": [7, 8, 7],
            "prompt": ["a", "b", "a"],
            "completion": ["x", "y", None],
            "reward": [True, False, None],
            "tokens": [[1, 2], [3], None],
            "logprobs": [[-0.5, -0.25], [-1.0], None],
        },
        schema_overrides={"tokens": pl.List(pl.UInt16), "logprobs": pl.List(pl.Float64)},
    )
    lists = {"completion_tokens": "tokens", "old_logprobs": "logprobs"}
    (batch,) = data.rollouts(frame, by="id", **lists)
    assert batch.completion_tokens.values.tolist() == [1, 2, 3]
    assert batch.completion_tokens.lengths.tolist() == [2, 0, 1]
    assert batch.old_logprobs.values.tolist() == [-0.5, -0.25, -1.0]
    assert batch.old_logprobs.values.dtype == np.float32
    assert batch.reward.tolist()[::2] == [1.0, 0.0]
    (untold,) = data.rollouts(frame, by="id", old_logprobs="logprobs")
    assert untold.completion_tokens is None

    short = frame.with_columns(logprobs=pl.Series([[-0.5, -0.5], [-1.0, -1.0], None]))
    with pytest.raises(ValueError, match=r"'logprobs' .* another length than .* tokens at row 1"):
        list(data.rollouts(short, by="id", **lists))
    for value in (float("nan"), float("-inf"), None):
        wrong = frame.with_columns(logprobs=pl.Series([[-0.5, -0.5], [value], None]))
        with pytest.raises(ValueError, match=r"'logprobs' .* holds \S+ at row 1"):
            list(data.rollouts(wrong, by="id", **lists))


def test_reference_rewards_come_with_their_rows():
    lists = [[0.1, None, 2.0], [float("nan"), 1.0], None]
    frame = pl.DataFrame(
        {
            "id": [7, 8, 7],
            "prompt": ["a", "b", "a"],
            "completion": ["x", "y", "z"],
            "reward": [1.0, 0.0, None],
            "others": lists,
        },
        schema_overrides={"others": pl.List(pl.Float64)},
    )
    (batch,) = data.rollouts(frame, by="id", reference_rewards="others")
    found = batch.reference_rewards
    assert found.lengths.tolist() == [3, 0, 2]
    np.testing.assert_array_equal(found.values, [0.1, np.nan, 2.0, np.nan, 1.0])
    assert found.values.dtype == np.float64  # 0.1 of a reward is to be 0.1 of a reference
    whole = frame.with_columns(others=pl.Series([[1, 2], [3], None]))
    (batch,) = data.rollouts(whole, by="id", reference_rewards="others")
    assert batch.reference_rewards.values.tolist() == [1.0, 2.0, 3.0]
    for wrong, problem in (
        ([float("inf")], "holds inf at row 1"),
        ([None], "has no number, though the row has a reward, at row 1"),
        ([], "has no number, though the row has a reward, at row 1"),
        (None, "is null, though it has a reward, at row 1"),
    ):
        other = frame.with_columns(
            others=pl.Series([[0.5], wrong, None], dtype=pl.List(pl.Float64))
        )
        with pytest.raises(ValueError, match=problem):
            list(data.rollouts(other, by="id", reference_rewards="others"))


def test_a_row_of_a_prompt_has_one_list_of_reference_rewards_for_all_its_completions():
    rows = {
        "prompt": ["a", "b"],
        "completion": [["x", "y"], ["z", "w"]],
        "reward": [[1.0, 0.0], [0.5, 0.5]],
        "others": [[0.5, 0.25], [2.0, 3.0]],  # as many as there are completions
    }
    (batch,) = data.rollouts(pl.DataFrame(rows), reference_rewards="others")
    assert batch.reference_rewards.values.tolist() == [0.5, 0.25] * 2 + [2.0, 3.0] * 2


COMPLETE = {"id": [1, 1], "prompt": ["p", "p"], "completion": ["c", "d"], "reward": [0.0, 1.0]}


@pytest.mark.parametrize(
    ("change", "options", "error", "words"),
    [
        ({}, {"by": "ids"}, ValueError, "no column 'ids'; did you mean 'id'"),
        ({}, {"by": "id", "reward": "Rewards"}, ValueError, "did you mean 'reward'"),
        ({}, {"by": "id", "prompt": "zz"}, ValueError, "it has 'id', 'prompt', 'completion'"),
        ({}, {"by": []}, ValueError, "`by` names no column"),
        (
            {"reward": ["0", "1"]},
            {"by": "id"},
            TypeError,
            "'reward' .* is String; it must be a num",
        ),
        (
            {"prompt": [1, 2]},
            {"by": "id"},
            TypeError,
            "'prompt' of the .* is Int64; it must be text",
        ),
        ({"id": [0.5, 1.0]}, {"by": "id"}, TypeError, "'id' .* is Float64; it must be an integer"),
        ({}, {"by": "id", "old_logprobs": "reward"}, TypeError, "Float64; it must be a list of fl"),
        ({"id": [1, None]}, {"by": "id"}, ValueError, "group id 'id' is null at row 1 of the Data"),
        ({"reward": [0, float("inf")]}, {"by": "id"}, ValueError, "'reward' is infinite at row 1"),
        (
            {"completion": ["c", None]},
            {"by": "id"},
            ValueError,
            "'completion' .* null, .* at row 1",
        ),
        ({}, {"by": "id", "batch_groups": 0}, ValueError, "batch_groups is 0"),
        ({}, {"by": "id", "start": 2}, ValueError, "start is 2, but .* has 1 groups"),
        ({}, {"by": "id", "spill_directory": "gone"}, OSError, "gone is no folder; make it"),
    ],
)
def test_what_is_wrong_is_told_with_its_name_and_place(change, options, error, words):
    with pytest.raises(error, match=words):
        next(data.rollouts(pl.DataFrame({**COMPLETE, **change}, strict=False), **options))


def test_no_rows_are_an_error_and_not_an_empty_training_run(tmp_path):
    pl.DataFrame(COMPLETE)[:0].write_parquet(tmp_path / "none.parquet")
    with pytest.raises(ValueError, match=r"none\.parquet has no rows"):
        data.rollouts(tmp_path / "none.parquet", by="id")


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_source_that_changes_between_the_passes_is_noticed(tmp_path, shuffle):
    file = tmp_path / "a.parquet"
    frame = pl.DataFrame({**COMPLETE, "id": [1, 2]})
    frame.write_parquet(file)
    index = data.index_groups(file, by="id")
    for changed in (pl.DataFrame(COMPLETE), pl.concat([frame, frame]), frame[:1]):
        changed.write_parquet(file)
        with pytest.raises(ValueError, match=r"changed between two reads|had ended"):
            list(data.rollouts(file, by="id", census=index, shuffle=shuffle))
