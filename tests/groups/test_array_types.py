"""Arrays of PyTorch, pandas and Polars in give such arrays out, with the values of NumPy's."""

import subprocess
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from numpy.testing import assert_array_equal

import gspo_rs as gs
from fixtures.array_calls import CALLS, PER_ROW, ragged, tables
from fixtures.examples import FEWER
from gspo_rs.groups.array_types import as_rows
from gspo_rs.groups.checks import as_rewards

FLOATS = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


def values_of(found):
    """Floats as float64, so that arrays of different types compare; other types as they are."""
    if isinstance(found, torch.Tensor):
        return found.double().numpy() if found.is_floating_point() else found.numpy()
    return found.to_numpy() if hasattr(found, "to_numpy") else np.asarray(found)


def silently(call, *args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return call(*args, **options)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("name", CALLS)
@FEWER
@given(case=ragged())
def test_a_tensor_gives_a_tensor_of_its_type_rounded_from_the_exact_result(name, dtype, case):
    rewards, ids = case
    expected = CALLS[name](rewards, ids)
    found = silently(CALLS[name], torch.tensor(rewards, dtype=dtype), torch.tensor(ids))
    if expected.dtype.kind == "f":
        assert found.dtype == dtype
        assert_array_equal(values_of(found), values_of(torch.tensor(expected).to(dtype)))
    else:
        assert found.dtype == torch.tensor(expected).dtype
        assert_array_equal(found.numpy(), expected)


def test_a_tensor_of_float64_is_read_where_it_lies_and_takes_over_the_result():
    rewards, result = torch.tensor([0.0, 1.0], dtype=torch.float64), np.array([0.5, 1.0])
    assert np.shares_memory(as_rewards(rewards), rewards.numpy())
    assert np.shares_memory(as_rows(result, rewards).numpy(), result)
    result.flags.writeable = False  # it belongs to someone else, and a tensor could be written to
    assert not np.shares_memory(as_rows(result, rewards).numpy(), result)


def test_a_number_that_only_float64_holds_is_refused_of_other_tensors_and_nan_is_none():
    found = np.array([np.nan, 1e39, 3e38])
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        with pytest.raises(ValueError, match=f"leaves the range of {dtype}"):
            silently(as_rows, found, torch.zeros(3, dtype=dtype))
    fits = silently(as_rows, found[[0, 2]], torch.zeros(2))
    assert fits.isnan().tolist() == [True, False]


@pytest.mark.parametrize("name", CALLS)
@FEWER
@given(table=tables())
def test_a_tensor_of_groups_in_rows_gives_the_values_of_the_array(name, table):
    expected = CALLS[name](table)
    found = silently(CALLS[name], torch.tensor(table))
    assert isinstance(found, torch.Tensor)
    assert_array_equal(found.numpy(), expected)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("dtype", [torch.int64, torch.int8, torch.uint8, torch.bool], ids=str)
def test_rewards_that_are_no_floats_give_floats_of_the_usual_type(name, dtype):
    rewards = torch.tensor([[0, 1, 1], [1, 0, 0]]).to(dtype)
    expected = CALLS[name](rewards.numpy())
    found = CALLS[name](rewards)
    if expected.dtype.kind == "f":
        assert found.dtype == torch.get_default_dtype() == torch.float32
    assert_array_equal(found.numpy(), expected.astype(found.numpy().dtype))


@pytest.mark.parametrize("name", CALLS)
def test_a_tensor_that_requires_a_gradient_is_taken_for_its_values_without_a_word(name):
    rewards = torch.tensor([0.0, 1.0, 0.5, 0.5], requires_grad=True) * 2
    found = silently(CALLS[name], rewards, torch.tensor([0, 0, 1, 1]))
    assert not found.requires_grad
    assert_array_equal(values_of(found), values_of(CALLS[name](rewards.detach(), [0, 0, 1, 1])))


@pytest.mark.parametrize(
    "made",
    [
        lambda r: torch.nn.Parameter(r),
        lambda r: torch.stack([r, r])[1],
        lambda r: torch.stack([r, -r], dim=1)[:, 0],
        lambda r: torch._neg_view(-r),
    ],
    ids=["parameter", "offset", "strided", "negative"],
)
def test_tensors_of_any_layout_and_class_are_taken(made):
    rewards = torch.tensor([0.0, 1.0, 0.5, 0.5])
    found = silently(gs.rank, made(rewards), group_size=2)
    assert type(found) is torch.Tensor
    assert found.tolist() == [1.0, 2.0, 1.5, 1.5]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", CALLS)
def test_a_tensor_on_a_gpu_gives_one_there(name):
    rewards = torch.tensor([[0.0, 1.0, 1.0], [0.5, 0.5, 0.25]], dtype=torch.bfloat16)
    ids = torch.tensor([0, 0, 0, 1, 1, 1])
    for here, grouped in ((rewards, ()), (rewards.ravel(), (ids,))):
        expected = CALLS[name](here, *grouped)
        found = CALLS[name](here.cuda(), *(group.cuda() for group in grouped))
        assert found.device.type == "cuda"
        assert found.dtype == expected.dtype
        assert_array_equal(values_of(found.cpu()), values_of(expected))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_options_may_lie_on_a_gpu():
    rewards, lengths = torch.rand(4, 3), torch.randint(1, 9, (4, 3))
    found = gs.advantage(rewards.cuda(), estimator="opo", lengths=lengths.cuda())
    assert torch.equal(found.cpu(), gs.advantage(rewards, estimator="opo", lengths=lengths))
    several, weights = torch.rand(4, 2), torch.tensor([1.0, 2.0])
    found = gs.advantage(several.cuda(), group_size=2, weights=weights.cuda())
    assert torch.equal(found.cpu(), gs.advantage(several, group_size=2, weights=weights))


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
@FEWER
@given(case=ragged())
def test_a_series_gives_a_series_with_the_labels_of_rows_or_the_ids_of_groups(name, case):
    rewards, ids = case
    expected = CALLS[name](rewards, ids)
    index = pd.Index([f"row {i}" for i in range(len(ids))], name="rollout")
    keys = pd.Series(ids, index=index, name="prompt")
    found = CALLS[name](pd.Series(rewards, index=index, name="reward"), keys)
    assert isinstance(found, pd.Series)
    assert found.name == "reward"
    assert_array_equal(found.to_numpy(), expected)
    if name in PER_ROW:
        assert found.index.equals(index)
        assert found.index.name == "rollout"
    else:
        assert found.index.tolist() == gs.Groups(ids).ids.tolist()
        assert found.index.name == "prompt"


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
@FEWER
@given(case=ragged())
def test_a_polars_series_gives_one_of_its_name(name, case):
    rewards, ids = case
    expected = CALLS[name](rewards, ids)
    series = pl.Series("reward", rewards).fill_nan(None)
    for keys in (ids, pl.Series(ids), pd.Series(ids), torch.tensor(ids), ids.tolist()):
        found = CALLS[name](series, keys)
        assert isinstance(found, pl.Series)
        assert found.name == "reward"
        assert_array_equal(found.to_numpy(), expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
@FEWER
@given(case=ragged())
def test_other_rewards_give_numpy_whatever_the_groups_are(name, case):
    rewards, ids = case
    expected = CALLS[name](rewards, ids)
    some = [None if np.isnan(r) else r for r in rewards.tolist()]
    only_dlpack = SimpleNamespace(
        __dlpack__=rewards.__dlpack__, __dlpack_device__=rewards.__dlpack_device__
    )
    for given_as in (rewards, some, tuple(some), pa.array(some, pa.float64()), only_dlpack):
        for keys in (ids, pl.Series(ids), pd.Series(ids), torch.tensor(ids), pa.array(ids)):
            found = CALLS[name](given_as, keys)
            assert type(found) is np.ndarray
            assert_array_equal(found, expected)


def test_frames_of_groups_in_rows_keep_their_labels():
    values = [[0.0, 1.0], [1.0, 1.0]]
    frame = pd.DataFrame(values, index=["p", "q"], columns=["first", "second"])
    expected = pd.DataFrame([[0.0, 1.0], [0.5, 0.5]], index=frame.index, columns=frame.columns)
    pd.testing.assert_frame_equal(gs.percentile(frame), expected)
    found = gs.informative(frame)
    pd.testing.assert_series_equal(found, pd.Series([True, False], index=frame.index))
    found = gs.percentile(pl.DataFrame(values, schema=["first", "second"], orient="row"))
    assert found.rows() == [(0.0, 1.0), (0.5, 0.5)]
    assert found.columns == ["first", "second"]


def test_frames_of_several_rewards_give_a_series():
    several = pd.DataFrame({"right": [1.0, 0.0], "short": [0.0, 1.0]}, index=["x", "y"])
    found = gs.advantage(several, ["a", "a"], "mean", weights=[2.0, 1.0])
    pd.testing.assert_series_equal(found, pd.Series([0.5, -0.5], index=["x", "y"]))
    found = gs.advantage(pl.from_pandas(several), ["a", "a"], "mean", weights=[2.0, 1.0])
    assert found.equals(pl.Series([0.5, -0.5]))


@pytest.mark.parametrize(
    ("ids", "names"),
    [
        (pd.DataFrame({"a": [1, 1, 2], "b": ["x", "x", "y"]}), ["a", "b"]),
        (pl.DataFrame({"a": [1, 1, 2], "b": ["x", "x", "y"]}), ["a", "b"]),
        (pa.table({"a": [1, 1, 2], "b": ["x", "x", "y"]}), ["a", "b"]),
    ],
    ids=["pandas", "polars", "arrow"],
)
def test_ids_of_several_columns_are_an_index_of_several_levels(ids, names):
    found = gs.informative(pd.Series([0.0, 1.0, 1.0]), ids)
    assert list(found.index.names) == names
    assert found.to_dict() == {(1, "x"): True, (2, "y"): False}


@pytest.mark.parametrize(
    "ids",
    [["x", "x", "y"], np.array(["x", "x", "y"]), pa.array(["x", "x", "y"]), pl.Series(list("xxy"))],
    ids=["list", "numpy", "arrow", "polars"],
)
def test_ids_of_every_kind_are_an_index(ids):
    found = gs.pass_at_k(pd.Series([0.0, 1.0, 1.0]), ids, k=1)
    assert found.to_dict() == {"x": 0.5, "y": 1.0}


def test_several_quantiles_keep_their_library():
    rewards, ids = [0.0, 1.0, 4.0, 2.0], ["a", "a", "b", "b"]
    expected = gs.quantile(rewards, ids, [0.5, 1.0])
    assert gs.quantile(torch.tensor(rewards), ids, [0.5, 1.0]).tolist() == expected.tolist()
    frame = gs.quantile(pd.Series(rewards), ids, [0.5, 1.0])
    pd.testing.assert_frame_equal(frame, pd.DataFrame(expected, index=["a", "b"]))
    series = gs.quantile(pl.Series("r", rewards), ids, [0.5, 1.0])
    assert series.dtype == pl.Array(pl.Float64, 2)
    assert series.to_list() == expected.tolist()


@pytest.mark.parametrize("made", [torch.DoubleTensor, pd.Series, pl.Series])
def test_statistics_of_any_library_make_the_same_frame(made):
    rewards, ids = [0.0, 1.0, 5.0], ["a", "a", "b"]
    expected = gs.stats(rewards, ids).to_polars()
    assert gs.stats(made(rewards), ids).to_polars().equals(expected)


def test_pairs_of_a_tensor_are_a_tensor_and_of_a_series_row_numbers():
    rewards, ids = [0.0, 1.0, 0.5, 2.0, 2.0], ["a", "a", "a", "b", "b"]
    expected = gs.preference_pairs(rewards, ids, "all")
    found = gs.preference_pairs(torch.tensor(rewards), ids, "all")
    assert torch.equal(found, torch.tensor(expected))
    for series in (pl.Series(rewards), pd.Series(rewards, index=list("vwxyz"))):
        found = gs.preference_pairs(series, ids, "all")
        assert type(found) is np.ndarray
        assert_array_equal(found, expected)
    table = [[0.0, 1.0], [2.0, 0.5]]
    assert gs.preference_pairs(table).tolist() == [[1, 0], [2, 3]]


def test_wins_of_tensors_are_an_advantage_of_a_tensor():
    wins = [[[0, 1], [0, 0]], [[0, 0.5], [0.5, 0]]]
    expected = np.array([[1.0, -1.0], [0.0, 0.0]])
    assert_array_equal(gs.advantage_from_wins(wins), expected)
    assert_array_equal(gs.advantage_from_wins(wins, group_size=2), expected.ravel())
    assert gs.advantage_from_wins([]).size == gs.advantage_from_wins([], group_size=2).size == 0
    for dtype in FLOATS:
        found = gs.advantage_from_wins(torch.tensor(wins, dtype=dtype))
        assert found.dtype == dtype
        assert_array_equal(values_of(found), expected)
    listed = [torch.tensor(matrix) for matrix in wins]
    found = gs.advantage_from_wins(iter(listed), ["a", "a", "b", "b"])
    assert found.dtype == torch.float32
    assert found.tolist() == [1.0, -1.0, 0.0, 0.0]


def test_penalties_and_packs_of_lengths_are_of_their_library():
    lengths = [70, 90, 200]
    expected = [0.0, -0.5, -1.0]
    options = {"max_length": 100, "cache": 20}
    found = gs.soft_overlong_penalty(torch.tensor(lengths), **options)
    assert (found.dtype, found.tolist()) == (torch.float32, expected)
    found = gs.soft_overlong_penalty(torch.tensor([lengths]), **options)
    assert found.tolist() == [expected]
    found = gs.soft_overlong_penalty(pd.Series(lengths, index=list("abc")), **options)
    assert found.to_dict() == dict(zip("abc", expected, strict=True))
    found = gs.soft_overlong_penalty(pl.Series("length", lengths), **options)
    assert (found.name, found.to_list()) == ("length", expected)
    packs = gs.pack(torch.tensor(lengths), 200)
    assert [pack.tolist() for pack in packs] == [pack.tolist() for pack in gs.pack(lengths, 200)]
    assert all(pack.dtype == torch.int64 for pack in packs)
    assert gs.pack(torch.tensor([], dtype=torch.int64), 7) == []


def test_the_ids_of_groups_of_a_tensor_are_a_tensor():
    groups = gs.Groups(torch.tensor([7, 7, 3, 7]))
    assert torch.equal(groups.ids, torch.tensor([7, 3]))
    assert gs.informative(pd.Series([0.0, 1.0, 2.0, 0.0]), groups).to_dict() == {7: True, 3: False}


def test_series_whose_labels_differ_are_refused_and_not_matched_by_position():
    frame = pd.DataFrame({"reward": [0.0, 1.0, 0.5], "id": ["a", "a", "b"]})
    shuffled = frame["reward"].sample(frac=1, random_state=1)
    assert not shuffled.index.equals(frame.index)
    with pytest.raises(ValueError, match="index of the groups is not that of the rewards"):
        gs.rank(shuffled, frame["id"])
    found = gs.rank(shuffled, frame["id"].loc[shuffled.index])
    assert found.sort_index().tolist() == [1.0, 2.0, 1.0]


def test_a_result_beyond_the_range_of_the_type_of_the_rewards_is_refused():
    rewards = torch.tensor([0.0] * 63 + [6e-5], dtype=torch.float16)
    big = gs.advantage(rewards, group_size=64, estimator="zscore", eps=0.0)
    assert big.isfinite().all()
    half = torch.tensor([[40000.0, -40000.0]], dtype=torch.float16)
    with pytest.raises(ValueError, match=r"80000 leaves the range of torch.float16.*float\(\)"):
        gs.advantage(half, estimator="rloo")
    assert gs.advantage(half.float(), estimator="rloo").tolist() == [[80000.0, -80000.0]]


@pytest.mark.parametrize("library", ["torch", "pandas", "polars"])
def test_no_library_is_imported_that_the_rewards_are_not_of(library):
    script = (
        "import sys, gspo_rs as gs; gs.advantage([[0.0, 1.0]]); gs.stats([1.0, 0.0], group_size=2);"
        f"gs.pass_at_k([1.0], ['a'], k=1); print({library!r} in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"
