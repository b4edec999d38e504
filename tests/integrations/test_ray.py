"""Scores on a local Ray cluster of two nodes, against the same rows on one machine."""

import hashlib
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

import gspo_rs as gs
import gspo_rs.polars
from gspo_rs.integrations.ray import COLUMNS, check, grade, score

ray = pytest.importorskip("ray")


@pytest.fixture(scope="module")
def nodes():
    """Two nodes of one core: each has its own scheduler, workers and object store."""
    from ray._common.utils import reset_ray_address
    from ray.cluster_utils import Cluster

    # Ray gives its workers the least priority, and they starve where anything else runs.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")
        found = Cluster(initialize_head=True, head_node_args={"include_dashboard": False})
        found.add_node()
    reset_ray_address()  # or a `ray.init()` in another process joins this cluster
    ray.init(address=found.address, log_to_driver=False, logging_level="FATAL")
    yield found
    ray.shutdown()
    found.shutdown()


@pytest.fixture(scope="module")
def cluster(nodes):
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    return context


@pytest.fixture(scope="module")
def frame(shared):
    whole = pl.read_parquet(shared / "data/rg_policy3.parquet").with_row_index("row")
    return whole.with_columns(pl.when(pl.col("row") % 97 > 0).then("reward").alias("reward"))


def blocks(frame, n=5):
    """Blocks between which every group is scattered."""
    return ray.data.from_arrow([frame[i::n].to_arrow() for i in range(n)])


def digest(frame):
    """One of the bits of all scores, and of all rows beside them."""
    rows = frame.sort("row")
    found = hashlib.sha256(rows.drop(COLUMNS).hash_rows(seed=0).to_numpy().tobytes())
    for name in COLUMNS:
        found.update(rows[name].is_null().to_numpy().tobytes())
        found.update(rows[name].fill_null(0).to_numpy().tobytes())
    return found.hexdigest()


def local(frame, by, estimator="percentile", **options):
    scores = pl.col("reward").gspo.score(by=by, estimator=estimator, **options)
    return frame.with_columns(scores.alias("score")).unnest("score")


def fetched(dataset):
    return pl.concat([pl.DataFrame(ray.get(block)) for block in dataset.to_arrow_refs()])


def die_once(place):
    """Return a step that kills its own process, with no chance to clean up, the first time."""

    def step(batch: pa.Table) -> pa.Table:
        try:
            os.close(os.open(place, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return batch
        os.kill(os.getpid(), signal.SIGKILL)
        return batch

    return step


def kill_when_reached(nodes, doomed, folder):
    """Kill a node as soon as a step on it has said that it is there."""

    def kill():
        while not (folder / "reached").exists():
            time.sleep(0.05)
        nodes.remove_node(doomed, allow_graceful=False)

    threading.Thread(target=kill, daemon=True).start()


def never_end_on(node, place):
    """Return a step that does not come back on one node."""

    def step(batch: pa.Table) -> pa.Table:
        while ray.get_runtime_context().get_node_id() == node:
            (place / "reached").touch()
            time.sleep(0.05)
        return batch

    return step


@pytest.mark.soak
@pytest.mark.parametrize("partitions", [2, 8, 50])
def test_any_number_of_partitions_gives_the_bits_of_one_machine(cluster, frame, partitions):
    by = ["source", "prompt_id"]
    found = score(blocks(frame), by=by, partitions=partitions)
    expected = local(frame, by)
    rows = fetched(found)
    assert rows.columns == expected.columns
    assert digest(rows) == digest(expected)
    assert rows["advantage"].n_unique() > 3


@pytest.mark.slow
def test_a_killed_worker_changes_no_bit(cluster, frame, tmp_path):
    stages = {"batch_size": None, "batch_format": "pyarrow"}
    read = blocks(frame).map_batches(die_once(str(tmp_path / "reading")), **stages)
    scored = score(read, by="prompt_id", estimator="zscore", partitions=8)
    found = scored.map_batches(die_once(str(tmp_path / "scoring")), **stages)
    assert digest(fetched(found)) == digest(local(frame, "prompt_id", "zscore"))
    assert {path.name for path in Path(tmp_path).iterdir()} == {"reading", "scoring"}


@pytest.mark.soak
def test_a_killed_node_changes_no_bit(cluster, nodes, frame, tmp_path, monkeypatch):
    (tmp_path / "rows").mkdir()
    for i in range(6):
        frame[i::6].write_parquet(tmp_path / "rows" / f"{i}.parquet")
    doomed = nodes.add_node()
    # One task at a time, so that a core is left for what the node had read and cut: tasks that wait
    # for it do not give up theirs.
    limits = ray.data.ExecutionResources(cpu=1)
    monkeypatch.setattr(cluster.execution_options, "resource_limits", limits)

    kill_when_reached(nodes, doomed, tmp_path)
    # The folder: Ray looks at files of a list in threads, which fail at random without aiohttp.
    read = ray.data.read_parquet(str(tmp_path / "rows"), override_num_blocks=6)
    scored = score(read, by="prompt_id", estimator="zscore", partitions=8)
    step = never_end_on(doomed.node_id, tmp_path)
    found = scored.map_batches(step, batch_size=None, batch_format="pyarrow")
    assert digest(fetched(found)) == digest(local(frame, "prompt_id", "zscore"))
    assert (tmp_path / "reached").exists()
    assert not doomed.any_processes_alive()


# Draws, fails, and once ends the actor whose pool it is in.
REWARD = """
import os, random, signal
def drawn(prompts, completions, most, **_):
    (text,), (limit,) = completions, most
    if text == "lost" and not os.path.exists("PLACE"):
        open("PLACE", "w").close()
        os.kill(os.getppid(), signal.SIGKILL)
    if text == "bad":
        raise ValueError(prompts[0])
    return [len(text) / limit + random.random()]
"""


@pytest.mark.slow
def test_rows_graded_by_actors_have_the_bits_of_one_machine_when_an_actor_is_lost(
    cluster, tmp_path
):
    (tmp_path / "reward.py").write_text(REWARD.replace("PLACE", str(tmp_path / "lost")))
    said = ["fine", "bad", None, "lost", *["longer"] * 60]
    frame = pl.DataFrame({"prompt": "p", "completion": said, "most": range(1, 65)})
    frame.write_parquet(tmp_path / "in.parquet")
    numbered = frame.with_columns(file=pl.lit("in.parquet"), row=pl.int_range(pl.len()))
    spec = f"{tmp_path / 'reward.py'}:drawn"
    patient = {"columns": ["most"], "timeout": 600.0, "start_timeout": 600.0}
    found = fetched(grade(blocks(numbered, 4), reward=spec, rows=16, **patient))
    assert (tmp_path / "lost").exists()
    (tmp_path / "out").mkdir()
    options = {"workers": 1, "max_failed": 1, **patient}
    gs.grade(tmp_path / "in.parquet", tmp_path / "out", reward=spec, **options)
    expected = pl.read_parquet(tmp_path / "out" / "*.parquet")
    assert found.columns == expected.columns
    stable = pl.exclude("seconds", "attempts")
    assert found.sort("row").select(stable).equals(expected.select(stable))
    assert found["status"].value_counts().sort("status").rows() == [
        ("error", 1),
        ("ok", 62),
        ("skipped", 1),
    ]


@pytest.mark.soak
def test_a_node_that_is_killed_costs_no_grade(cluster, nodes, tmp_path, monkeypatch):
    (tmp_path / "reward.py").write_text(REWARD)
    texts = ["x" * (i % 9) for i in range(600)]
    rows = {"file": "f", "row": np.arange(600), "prompt": "p", "completion": texts, "most": 3}
    frame = pl.DataFrame(rows)
    doomed = nodes.add_node()
    limits = ray.data.ExecutionResources(cpu=2)
    monkeypatch.setattr(cluster.execution_options, "resource_limits", limits)

    kill_when_reached(nodes, doomed, tmp_path)
    spec = f"{tmp_path / 'reward.py'}:drawn"
    patient = {"columns": ["most"], "timeout": 600.0, "start_timeout": 600.0}
    graded = grade(blocks(frame, 6), reward=spec, rows=50, **patient)
    step = never_end_on(doomed.node_id, tmp_path)
    found = fetched(graded.map_batches(step, batch_size=None, batch_format="pyarrow"))
    assert (tmp_path / "reached").exists()
    again = fetched(grade(blocks(frame, 1), reward=spec, **patient))
    stable = pl.exclude("seconds", "attempts")
    assert found.sort("row").select(stable).equals(again.sort("row").select(stable))
    assert found["row"].n_unique() == 600


@pytest.mark.soak
def test_a_group_larger_than_a_block_is_not_split(cluster):
    # 8 groups of 4 MB, while Ray cuts blocks at 1 MB.
    n = 4000
    rows = {"row": np.arange(n), "id": np.arange(n) % 8, "text": ["x" * 8000] * n}
    frame = pl.DataFrame({**rows, "reward": np.random.default_rng(0).normal(size=n)})
    old = cluster.target_max_block_size
    cluster.target_max_block_size = 1 << 20
    try:
        scored = fetched(score(blocks(frame), by="id", partitions=2, estimator="rloo"))
    finally:
        cluster.target_max_block_size = old
    assert digest(scored) == digest(local(frame, "id", "rloo"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "missing", [pytest.param(False, marks=pytest.mark.soak), True], ids=["whole", "split"]
)
def test_a_group_that_was_split_is_found(cluster, missing):
    frame = pl.DataFrame({"row": np.arange(400), "id": np.arange(400) % 8, "reward": 0.5})
    scored = local(frame, "id").filter(pl.col("row") != (13 if missing else -1))
    if not missing:
        check(blocks(scored), by="id", partitions=2)
        return
    with pytest.raises(ValueError, match="the group id=5 has 49 rows, but its rows say 50"):
        check(blocks(scored), by="id", partitions=2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("row", "options", "words"),
    [
        ({"id": "b", "reward": float("-inf")}, {}, "a reward of the group id='b' is -inf; use nul"),
        pytest.param({"id": None, "reward": 0.0}, {}, "null", marks=pytest.mark.soak),
        pytest.param(
            {"id": "b", "reward": 0.0},
            {"reward": "score"},
            "no column 'score'; it has id, reward",
            marks=pytest.mark.soak,
        ),
        pytest.param(
            {"id": "b", "rank": 1, "reward": 0.0},
            {},
            "has a column 'rank' already",
            marks=pytest.mark.soak,
        ),
    ],
)
def test_a_bad_row_stops_the_job_and_is_named(cluster, row, options, words):
    rows = ray.data.from_arrow(pl.DataFrame([row], schema_overrides={"id": pl.String}).to_arrow())
    with pytest.raises(Exception, match=words):
        score(rows, by="id", partitions=1, **options).take_all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"estimator": "batch_std"}, "batch_std needs all groups at once"),
        ({"estimator": "reinforce_pp"}, "needs all groups at once"),
        ({"estimator": "gdpo"}, "needs all groups at once"),
        ({"ties": "ordinal"}, "follows the order of rows"),
        ({"estimator": "precentile"}, "did you mean 'percentile'"),
        ({"q": 0.2}, "percentile has no option 'q'"),
        ({"estimator": "opo", "lengths": [1, 2]}, "lengths is list; on Ray it is a number, a name"),
        ({"partitions": 0}, "partitions is 0; it is at least 1"),
    ],
)
def test_what_one_block_cannot_know_is_refused_before_anything_runs(options, words):
    with pytest.raises((ValueError, TypeError), match=words):
        score(None, by="id", **options)
