"""Hugging Face data sets: the same rows and bits, at the same addresses."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gspo_rs as gs

datasets = pytest.importorskip("datasets")

from gspo_rs.integrations.datasets import from_dataset, score, to_dataset  # noqa: E402
from gspo_rs.integrations.torch_data import GroupDataset  # noqa: E402

COLUMNS = {"id": ["a", "b", "a"], "text": ["x", "y", "z"], "reward": [0.0, 1.0, 1.0]}


def address(dataset, column):
    """Where the values of a column of one chunk lie."""
    return dataset.with_format("arrow")[:][column].chunk(0).buffers()[1].address


def test_numbers_lie_where_the_data_set_has_them_on_the_way_in_and_out(tmp_path):
    datasets.Dataset.from_dict(COLUMNS).save_to_disk(tmp_path / "saved")
    dataset = datasets.load_from_disk(tmp_path / "saved")
    rewards = from_dataset(dataset)["reward"]
    assert rewards.to_numpy(allow_copy=False).ctypes.data == address(dataset, "reward")
    assert address(to_dataset(rewards.to_frame()), "reward") == address(dataset, "reward")
    assert address(score(dataset, by="id"), "reward") == address(dataset, "reward")
    assert address(score(dataset, by="id"), "text") == address(dataset, "text")


def test_rows_that_were_shuffled_filtered_or_selected_come_as_they_are_now():
    dataset = datasets.Dataset.from_dict({"row": range(50), "reward": [0.5] * 50})
    for changed in (
        dataset.shuffle(seed=1),
        dataset.select([7, 3, 3]),
        dataset.filter(lambda row: row["row"] % 3 == 0),
    ):
        assert from_dataset(changed)["row"].to_list() == changed["row"][:]


@pytest.mark.slow
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.none() | st.integers(-3, 3)), min_size=1, max_size=20
    ),
    st.randoms(use_true_random=False),
)
def test_scores_are_those_of_the_arrays_though_the_rows_were_shuffled(rows, random):
    order = random.sample(range(len(rows)), len(rows))
    frame = pl.DataFrame(rows, schema={"id": pl.String, "reward": pl.Float64}, orient="row")
    found = score(to_dataset(frame).select(order), by="id")
    ids, rewards = [rows[i][0] for i in order], [rows[i][1] for i in order]
    assert found["id"][:] == ids
    for name, expected in (
        ("percentile", gs.percentile(rewards, ids)),
        ("advantage", gs.advantage(rewards, ids)),
    ):
        given = np.array(found[name][:], dtype=np.float64)
        np.testing.assert_array_equal(given, expected)


def test_the_arrow_columns_of_a_data_set_go_into_the_array_functions():
    table = datasets.Dataset.from_dict(COLUMNS).with_format("arrow")[:]
    assert gs.Groups(table["id"]).codes.tolist() == [0, 1, 0]
    assert gs.percentile(table["reward"], table["id"]).tolist() == [0.0, 0.5, 1.0]


def test_a_scored_data_set_keeps_its_types_and_is_shared_out_to_loaders():
    labels = datasets.ClassLabel(names=["wrong", "right"])
    dataset = datasets.Dataset.from_dict({**COLUMNS, "label": [0, 1, 1]})
    scored = score(dataset.cast_column("label", labels), by="id")
    assert scored.features["label"] == labels
    (item,) = GroupDataset(from_dataset(scored), by="id", columns=["text", "advantage"])
    assert item["text"] == ["x", "z", "y"]
    assert item["advantage"].tolist() == gs.advantage([0.0, 1.0, 1.0], ["a", "a", "b"]).tolist()


def test_columns_that_are_missing_or_there_already_are_named():
    dataset = datasets.Dataset.from_dict(COLUMNS)
    with pytest.raises(ValueError, match="no column 'prompt_id'; it has 'id', 'text', 'reward'"):
        score(dataset, by="prompt_id")
    with pytest.raises(ValueError, match="has a column 'rank' already; rename or drop it"):
        score(score(dataset, by="id"), by="id")
