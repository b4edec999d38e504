"""Strengths from comparisons, against the optimum that autograd finds and the values of choix."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import gspo_rs as gs


@st.composite
def tournaments(draw):
    """Wins of some members, of whom not every two have met."""
    n = draw(st.integers(2, 7))
    wins = np.full((n, n), np.nan)
    for i in range(n):
        for j in range(i):
            met = draw(st.sampled_from([None, (1.0, 0.0), (0.0, 1.0), (0.5, 0.5), (2.0, 1.5)]))
            if met is not None:
                wins[i, j], wins[j, i] = met
    return wins


def optimum(wins, deviation):
    """Where the penalised likelihood is largest: Newton's method with derivatives by autograd."""
    won = torch.tensor(np.nan_to_num(wins))

    def loss(strengths):
        odds = strengths[:, None] - strengths
        fit = -(won * torch.nn.functional.logsigmoid(odds)).sum()
        return fit + (strengths**2).sum() / (2 * deviation**2)

    at = torch.zeros(len(won), dtype=torch.float64)
    for _ in range(50):
        slope = torch.func.grad(loss)(at)
        step = torch.linalg.solve(torch.func.hessian(loss)(at), slope)
        scale = 1.0
        while loss(at - scale * step) > loss(at) + 1e-9:
            scale /= 2
        at = at - scale * step
    assert torch.func.grad(loss)(at).abs().max() < 1e-10
    return at.numpy()


@pytest.mark.slow
@settings(max_examples=40)
@given(tournaments(), st.sampled_from([0.3, 1.0, 4.0]))
def test_strengths_are_where_the_penalised_likelihood_is_largest(wins, deviation):
    found = gs.bradley_terry([wins], group_size=len(wins), deviation=deviation)
    assert_allclose(found, optimum(wins, deviation), atol=1e-9)
    assert abs(found.sum()) < 1e-9


# choix 0.4.1, `opt_pairwise(4, data, alpha=0.5, method="Newton-CG", tol=1e-12)`.
CHOIX_DATA = [(0, 1), (0, 1), (1, 0), (1, 2), (2, 3), (0, 3), (3, 1), (0, 2), (2, 0), (0, 1)]
CHOIX = [0.45412071, -0.2500697, 0.04975715, -0.25380817]


def test_strengths_are_those_of_choix():
    wins = np.zeros((4, 4))
    for winner, loser in CHOIX_DATA:
        wins[winner, loser] += 1
    assert_allclose(gs.bradley_terry(wins[None])[0], CHOIX, atol=1e-8)


@settings(max_examples=40)
@given(tournaments(), st.randoms())
def test_no_bit_depends_on_the_order_of_the_members(wins, random):
    order = list(range(len(wins)))
    random.shuffle(order)
    found = gs.bradley_terry([wins], group_size=len(wins))
    again = gs.bradley_terry([wins[np.ix_(order, order)]], group_size=len(wins))
    assert_array_equal(again, found[order])


@given(st.integers(2, 12), st.integers(0, 1000))
def test_where_all_have_met_the_order_and_the_ties_are_those_of_wins(n, seed):
    draw = np.random.default_rng(seed).choice([0.0, 0.5, 1.0], (n, n))
    wins = np.tril(draw, -1) + np.triu(1 - draw.T, 1)
    strengths, net = gs.bradley_terry(wins[None])[0], gs.advantage_from_wins(wins[None])[0]
    net = net.round(9)
    assert_array_equal(np.sign(strengths[:, None] - strengths), np.sign(net[:, None] - net))


def test_parts_that_nothing_links_are_groups_of_their_own():
    one = np.array([[0, 1, 0.5], [0, 0, 1], [0.5, 0, 0]])
    other = np.array([[0, 3.0], [1, 0]])
    both = np.full((6, 6), np.nan)
    both[:3, :3], both[3:5, 3:5] = one, other
    found = gs.bradley_terry(both[None])[0]
    assert_allclose(found[:3], gs.bradley_terry(one[None])[0], atol=1e-12)
    assert_allclose(found[3:5], gs.bradley_terry(other[None])[0], atol=1e-12)
    assert found[5] == 0


def test_a_member_that_wins_always_is_ahead_by_a_finite_number_that_grows_with_the_deviation():
    wins = np.triu(np.ones((5, 5)), 1)[None]
    ahead = [gs.bradley_terry(wins, deviation=d)[0, 0] for d in (0.5, 1.0, 5.0)]
    assert 0 < ahead[0] < ahead[1] < ahead[2] < 10


def test_tensors_and_groups_are_those_of_advantage_from_wins():
    wins = [[[0, 1], [0, 0]], [[0]], [[0, 0.5], [0.5, 0]]]
    found = gs.bradley_terry(wins, ["a", "b", "a", "c", "c"])
    assert found[[1, 3, 4]].tolist() == [0, 0, 0]
    assert found[0] == -found[2] > 0
    tensor = torch.tensor(wins[::2], dtype=torch.float32)
    assert gs.bradley_terry(tensor).dtype == torch.float32
    assert_allclose(gs.bradley_terry(tensor)[0].numpy(), found[[0, 2]], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wins", "deviation", "words"),
    [
        ([[0, -1], [1, 0]], 1.0, "group 0 have -1; they are at least 0"),
        ([[0, np.inf], [1, 0]], 1.0, "the wins of group 0 are not finite"),
        ([[0, 1], [1, 0]], 0.0, r"deviation is 0\.0; it is finite and above 0"),
        ([[0, 1], [0, 0]], 1e9, "no strengths after 100000 steps; give a smaller deviation"),
    ],
)
def test_what_has_no_strengths_is_refused(wins, deviation, words):
    with pytest.raises(ValueError, match=words):
        gs.bradley_terry([wins], group_size=2, deviation=deviation)
