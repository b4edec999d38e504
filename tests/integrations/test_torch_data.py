"""Whole groups, once an epoch each, over ranks and workers, however often a pass is cut off."""

import copy
import json
from itertools import islice, pairwise
from types import SimpleNamespace

import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

import gspo_rs as gs
from gspo_rs.files.selection import select
from gspo_rs.integrations import torch_data
from gspo_rs.integrations.torch_data import GroupDataset

FRAME = pl.DataFrame({"id": [0, 1], "row": [0, 1], "reward": 0.5})


@st.composite
def frames(draw):
    """Completions numbered by row, of clustered or scattered groups."""
    ids = draw(st.lists(st.integers(0, 30), min_size=1, max_size=60))
    ids = sorted(ids) if draw(st.booleans()) else ids
    return pl.DataFrame({"id": ids, "row": range(len(ids)), "reward": 0.5})


def groups_of(items):
    """The rows of each group, from the column `row`."""
    found = []
    for item in items:
        cuts = pairwise(item["offsets"].tolist())
        found += [tuple(item["row"][start:stop].tolist()) for start, stop in cuts]
    return found


def oracle(frame):
    """The rows of each group, as Polars groups them."""
    groups = frame.group_by("id", maintain_order=True).agg("row")
    return [tuple(rows) for rows in groups["row"].to_list()]


def in_worker(worker, workers, function, *args):
    """Call a function where `get_worker_info` says that this is one worker of several."""
    info = SimpleNamespace(id=worker, num_workers=workers)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_data, "get_worker_info", lambda: info)
        return function(*args)


def loaded(dataset, workers, states=None):
    """The items of a loader, an item of each worker in turn, all in this process.

    A copy of a data set shares its tensors with it and keeps the rest to itself, as in a worker.
    Each item comes with its worker and the states of all, where `states` is what each worker is
    given first.
    """
    if not workers:
        yield from ((item, (0, dataset.state_dict())) for item in dataset)
        return
    sets = [copy.copy(dataset) for _ in range(workers)]
    for worker, state in (states or {}).items():
        in_worker(worker, workers, sets[worker].load_state_dict, state)
    streams = {i: in_worker(i, workers, iter, each) for i, each in enumerate(sets)}
    while streams:
        for worker in list(streams):
            item = in_worker(worker, workers, next, streams[worker], None)
            if item is None:
                del streams[worker]
            else:
                yield item, (worker, in_worker(worker, workers, sets[worker].state_dict))


def made(frame, rank=0, world_size=1, **options):
    return GroupDataset(frame, by="id", rank=rank, world_size=world_size, seed=3, **options)


# Each example is up to eight ranks of four workers.
FEWER = settings(max_examples=settings().max_examples // 3)
cases = given(
    frame=frames(),
    world_size=st.integers(1, 8),
    workers=st.integers(0, 4),
    options=st.fixed_dictionaries({"batch_groups": st.integers(1, 4), "shuffle": st.booleans()}),
    stops=st.lists(st.integers(0, 8), max_size=3),
)


@pytest.mark.slow
@FEWER
@cases
def test_every_group_comes_once_an_epoch_though_the_loop_stops_and_goes_on(
    frame, world_size, workers, options, stops
):
    found = []
    for rank in range(world_size):
        dataset, taken = made(frame, rank, world_size, **options), 0
        for stop in stops:
            items = [item for item, _ in islice(loaded(dataset, workers), stop)]
            found += items
            taken += len(items)
            state = json.loads(json.dumps(dataset.state_dict(taken)))
            dataset = made(frame, rank, world_size, **options)
            dataset.load_state_dict(state)
        found += [item for item, _ in loaded(dataset, workers)]
    assert sorted(groups_of(found)) == sorted(oracle(frame))


@pytest.mark.slow
@FEWER
@cases
def test_every_group_comes_once_an_epoch_though_each_worker_goes_on_from_its_own_state(
    frame, world_size, workers, options, stops
):
    found = []
    for rank in range(world_size):
        dataset, states = made(frame, rank, world_size, **options), {}
        for stop in stops:
            taken = list(islice(loaded(dataset, workers, states), stop))
            found += [item for item, _ in taken]
            states |= dict(state for _, state in taken)
            dataset = made(frame, rank, world_size, **options)
            if not workers and states:
                dataset.load_state_dict(states[0])
        found += [item for item, _ in loaded(dataset, workers, states)]
    assert sorted(groups_of(found)) == sorted(oracle(frame))


@given(frames(), st.integers(1, 4))
def test_in_one_process_groups_come_in_the_order_of_their_first_rows(frame, batch_groups):
    dataset = made(frame, batch_groups=batch_groups)
    items = list(dataset)
    assert groups_of(items) == oracle(frame)
    assert len(items) == len(dataset)


def test_each_epoch_has_its_own_order_and_gives_it_again():
    frame = pl.DataFrame({"id": range(50), "row": range(50), "reward": 0.0})
    dataset, orders = made(frame, shuffle=True), []
    for epoch in (0, 1, 0):
        dataset.set_epoch(epoch)
        orders.append(groups_of(dataset))
    assert orders[0] == orders[2] == groups_of(made(frame, shuffle=True))
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == oracle(frame)


def test_a_loaded_state_holds_for_one_pass_and_not_for_another_epoch():
    frame = pl.DataFrame({"id": range(6), "row": range(6), "reward": 0.0})
    dataset = made(frame, batch_groups=2)
    stream = iter(dataset)
    next(stream)
    state = dataset.state_dict()
    dataset.load_state_dict(state)
    assert groups_of(dataset) == [(2,), (3,), (4,), (5,)]
    assert groups_of(dataset) == oracle(frame)
    dataset.load_state_dict(state)
    dataset.set_epoch(1)
    assert groups_of(dataset) == oracle(frame)


@pytest.mark.slow
def test_a_loader_with_two_worker_processes_goes_on_where_its_loop_stopped(tmp_path):
    frame = pl.DataFrame({"id": [row // 3 for row in range(60)], "row": range(60), "reward": 0.5})
    frame.write_parquet(tmp_path / "scored.parquet", row_group_size=7)

    def start():
        dataset = GroupDataset(tmp_path / "scored.parquet", by="id", batch_groups=3, shuffle=True)
        return dataset, DataLoader(
            dataset, batch_size=None, num_workers=2, multiprocessing_context="forkserver"
        )

    dataset, loader = start()
    assert len(loader) == 7
    first = list(islice(loader, 3))
    with pytest.raises(ValueError, match="2 workers read ahead; say how many items the loop has"):
        dataset.state_dict()
    state = dataset.state_dict(taken=3)
    dataset, loader = start()
    dataset.load_state_dict(state)
    rest = list(loader)
    assert sorted(groups_of(first + rest)) == oracle(frame)
    assert groups_of(first + rest) == [
        group for item, _ in loaded(start()[0], 2) for group in groups_of([item])
    ]


def test_a_loader_that_forks_is_refused_before_it_hangs():
    loader = DataLoader(made(FRAME), batch_size=None, num_workers=1, multiprocessing_context="fork")
    with pytest.raises(RuntimeError, match=r"hangs in a forked process; use .*forkserver"):
        next(iter(loader))


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["wide", "narrow"])
def test_the_output_of_a_scoring_run_comes_with_its_scores_and_texts(tmp_path, layout):
    frame = pl.DataFrame(
        {"id": ["a", "b", "a"], "text": ["x", "y", "z"], "reward": [0.0, 1.0, 1.0]}
    )
    frame.write_parquet(tmp_path / "in.parquet")
    gs.score(tmp_path / "in.parquet", tmp_path / "out", by="id", layout=layout)
    (item,) = GroupDataset(tmp_path / "out", by="id", columns=["text", "percentile"])
    assert item["text"] == ["x", "z", "y"]
    assert item["percentile"].tolist() == [0.0, 1.0, 0.5]
    assert item["percentile"].dtype == torch.float64
    assert item["offsets"].tolist() == [0, 2, 3]
    assert set(item) == {"offsets", "text", "percentile"}


@pytest.mark.slow
def test_a_selection_file_gives_the_chosen_rows_alone(tmp_path):
    frame = pl.DataFrame({"id": [1, 2, 1, 2], "row": range(4), "reward": [0.0, 1.0, 1.0, 1.0]})
    frame.write_parquet(tmp_path / "in.parquet")
    select(tmp_path / "in.parquet", tmp_path / "chosen.parquet", by="id", keep="informative")
    assert groups_of(GroupDataset(tmp_path / "chosen.parquet", by="id")) == [(0, 2)]


def test_columns_keep_their_types_and_a_missing_float_is_nan():
    frame = pl.DataFrame(
        {
            "id": ["a", "a"],
            "reward": [None, 1.0],
            "right": [True, False],
            "length": pl.Series([3, 4], dtype=pl.Int32),
            "tokens": [[1, 2], []],
        }
    )
    (item,) = GroupDataset(frame, by="id")
    assert item["id"] == ["a", "a"]
    assert torch.equal(item["reward"].isnan(), torch.tensor([True, False]))
    assert torch.equal(item["right"], torch.tensor([True, False]))
    assert torch.equal(item["length"], torch.tensor([3, 4], dtype=torch.int32))
    assert item["tokens"] == [[1, 2], []]


@pytest.mark.parametrize(
    ("frame", "options", "words"),
    [
        (FRAME, {"columns": ["rows"]}, "no column 'rows'; did you mean 'row'"),
        (FRAME.rename({"row": "offsets"}), {}, "has a column 'offsets', as an item has"),
        (FRAME, {"batch_groups": 0}, "batch_groups is 0; it must be at least 1"),
        (FRAME, {"rank": 2, "world_size": 2}, r"rank is 2; it must lie in 0 … world_size - 1 = 1"),
        (FRAME, {"rank": 2, "world_size": None}, "rank is 2 and world_size None; give both"),
        (FRAME.with_columns(id=None), {}, "group id 'id' is null at row 0|is Null"),
    ],
)
def test_what_cannot_be_shared_out_is_refused_at_once(frame, options, words):
    with pytest.raises((ValueError, TypeError), match=words):
        made(frame, **options)


def test_a_missing_integer_is_refused_by_its_row():
    frame = FRAME.with_columns(length=pl.Series([3, None]))
    with pytest.raises(ValueError, match="column 'length' is null at row 1; fill it, or cast"):
        list(made(frame))


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"batch_groups": 2}, "the state has batch_groups=1, this data set 2"),
        ({"shuffle": True}, "the state has shuffle=False, this data set True"),
        ({"world_size": 2}, "the state has world_size=1, this data set 2"),
    ],
)
def test_a_state_of_another_order_is_refused_by_what_differs(other, words):
    state = made(FRAME, batch_groups=1).state_dict(1)
    with pytest.raises(ValueError, match=words):
        made(FRAME, **{"batch_groups": 1, **other}).load_state_dict(state)


def test_a_state_of_another_number_of_workers_is_refused_by_the_pass():
    dataset = made(FRAME, batch_groups=1)
    dataset.load_state_dict(dataset.state_dict(1))
    with pytest.raises(ValueError, match="the state is of 1 workers, the loader has 2"):
        list(loaded(dataset, 2))
    with pytest.raises(ValueError, match="taken is 3; an epoch of this rank has 2 items"):
        dataset.state_dict(3)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_stateful_loader_keeps_the_state_of_each_worker(workers):
    stateful = pytest.importorskip("torchdata.stateful_dataloader")
    frame = pl.DataFrame({"id": range(11), "row": range(11), "reward": 0.5})
    context = "forkserver" if workers else None

    def start():
        return stateful.StatefulDataLoader(
            made(frame, batch_groups=1, shuffle=True),
            batch_size=None,
            num_workers=workers,
            multiprocessing_context=context,
        )

    loader = start()
    stream = iter(loader)
    first = list(islice(stream, 5))
    state = loader.state_dict()
    whole = groups_of(first) + groups_of(stream)
    loader = start()
    loader.load_state_dict(state)
    assert groups_of(first) + groups_of(loader) == whole
    assert sorted(whole) == oracle(frame)
    assert sorted(groups_of(loader)) == oracle(frame)
