"""Groups without ids: consecutive rows of one size, and the rows of a matrix of rewards."""

import re

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from numpy.testing import assert_array_equal

import gspo_rs as gs
from fixtures.array_calls import CALLS, PER_ROW, tables
from fixtures.examples import FEWER


@pytest.mark.parametrize("name", CALLS)
@FEWER
@given(table=tables())
def test_a_table_without_groups_is_its_rows_one_after_another(name, table):
    n_groups, size = table.shape
    flat, ids = table.ravel(), np.repeat(np.arange(n_groups), size)
    expected = CALLS[name](flat, ids)
    found = CALLS[name](table)
    assert found.shape == (table.shape if name in PER_ROW else (n_groups,))
    assert_array_equal(found.ravel(), expected)
    assert_array_equal(CALLS[name](flat, group_size=size), expected)
    assert_array_equal(CALLS[name](table.tolist()), found)
    assert_array_equal(CALLS[name](tuple(map(tuple, table.tolist()))), found)


@given(table=tables(), more=tables())
def test_several_rewards_of_groups_in_rows_are_those_of_the_rows(table, more):
    both = np.stack([table, np.resize(more, table.shape)], axis=-1)
    n_groups, size = table.shape
    ids = np.repeat(np.arange(n_groups), size)
    for options in ({"weights": [1.0, 0.5]}, {"estimator": "borda"}, {"estimator": "gdpo"}):
        expected = gs.advantage(both.reshape(-1, 2), ids, **options)
        for rewards in (both, both.tolist(), torch.tensor(both)):
            found = gs.advantage(rewards, **options)
            assert found.shape == table.shape
            assert_array_equal(np.asarray(found).ravel(), expected)
        assert_array_equal(gs.advantage(both.reshape(-1, 2), group_size=size, **options), expected)


def test_lengths_have_the_shape_of_the_rewards():
    rewards = np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
    lengths = np.array([[3, 5, 7], [2, 4, 9]])
    expected = gs.advantage(rewards.ravel(), [0] * 3 + [1] * 3, "opo", lengths=lengths.ravel())
    assert_array_equal(gs.advantage(rewards, estimator="opo", lengths=lengths).ravel(), expected)
    with pytest.raises(ValueError, match=re.escape("lengths have shape (6,), the rewards (2, 3)")):
        gs.advantage(rewards, estimator="opo", lengths=lengths.ravel())


def test_rewards_in_rows_are_checked_as_those_in_a_list_are():
    with pytest.raises(TypeError, match="reward 9007199254740993 at row 3 would be rounded"):
        gs.rank([[0.5, 1.0], [2, 2**53 + 1]])
    assert gs.rank([[0, None], [True, False]])[1].tolist() == [2.0, 1.0]
    with pytest.raises(TypeError, match="9007199254740993 at row 1 would be rounded"):
        gs.rank(torch.tensor([0, 2**53 + 1]), group_size=2)
    with pytest.raises(ValueError, match="reward at row 1 is inf"):
        gs.rank(torch.tensor([0.0, torch.inf]), group_size=2)


@pytest.mark.parametrize(
    ("call", "kind", "problem"),
    [
        (lambda: gs.advantage([1.0] * 20, group_size=8), ValueError, "20 rewards .*group_size 8"),
        (
            lambda: gs.rank([1.0], ["a"], group_size=1),
            TypeError,
            "and group_size=1 are both",
        ),
        (lambda: gs.rank([1.0]), TypeError, r"shape \(1,\) come without groups; give groups"),
        (lambda: gs.rank(torch.ones(3)), TypeError, r"shape \(3,\) come without groups"),
        (lambda: gs.rank([[1.0], [1.0, 2.0]]), ValueError, "lists of several lengths"),
        (lambda: gs.rank(np.ones((2, 0))), ValueError, r"\(2, 0\) are groups without members"),
        (lambda: gs.rank([1.0], group_size=0), ValueError, "group_size is 0; it is at least 1"),
        (lambda: gs.rank([1.0], group_size=2.5), TypeError, "group_size is 2.5; it is an integer"),
        (lambda: gs.rank(np.ones((4, 2)), group_size=2), ValueError, r"\(P, G\), goes without"),
        (lambda: gs.rank(np.ones((4, 2)), [0] * 4), ValueError, r"\(P, G\), goes without"),
        (lambda: gs.advantage(np.ones((2, 2)), weights=[1, 1]), ValueError, r"\(P, G, k\) without"),
        (lambda: gs.advantage(np.ones((2, 2)), estimator="borda"), ValueError, r"\(P, G, k\)"),
        (lambda: gs.rank(np.ones((2, 2)), "min"), ValueError, "'min', which may be an option"),
        (lambda: gs.quantile(np.ones((2, 2))), TypeError, "q is missing"),
        (lambda: gs.top_fraction(np.ones((2, 2))), TypeError, "q is missing"),
        (lambda: gs.pass_at_k(np.ones((2, 2))), TypeError, "k is missing"),
        (lambda: gs.best_of_n(np.ones((2, 2))), TypeError, "n is missing"),
        (lambda: gs.rows(np.ones((2, 2))), TypeError, "columns is missing"),
        (lambda: gs.advantage_from_wins([[[0]], [[0, 1], [0, 0]]]), TypeError, "several sizes"),
        (lambda: gs.rank(pl.Series([[1.0], [0.5, 1.0]])), TypeError, "column of lists explode"),
        (
            lambda: gs.advantage_from_wins(np.ones((2, 1, 1)), group_size=-1),
            ValueError,
            "size is -1",
        ),
        (lambda: gs.rank(torch.ones(2, dtype=torch.complex64), [0, 0]), TypeError, "complex64"),
    ],
)
def test_bad_layouts_are_refused_with_what_to_give_instead(call, kind, problem):
    with pytest.raises(kind, match=problem):
        call()
