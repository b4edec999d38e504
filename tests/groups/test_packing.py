"""Micro-batches of whole sequences."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gspo_rs as gs


@given(st.lists(st.integers(0, 64), max_size=80), st.integers(64, 200))
def test_every_sequence_is_in_one_pack_and_no_pack_is_over_budget(lengths, budget):
    packs = gs.pack(lengths, budget)
    assert sorted(i for pack in packs for i in pack.tolist()) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in pack) <= budget for pack in packs)
    assert all((np.diff(pack) > 0).all() for pack in packs)


def fewest_packs(lengths, budget):
    """The optimum by dynamic programming over subsets: (packs, least fill of the last one)."""
    best = {0: (1, 0)}
    for subset in range(1, 1 << len(lengths)):
        candidates = []
        for i in (i for i in range(len(lengths)) if subset >> i & 1):
            packs, fill = best[subset ^ (1 << i)]
            fits = fill + lengths[i] <= budget
            candidates.append((packs, fill + lengths[i]) if fits else (packs + 1, lengths[i]))
        best[subset] = min(candidates)
    return best[(1 << len(lengths)) - 1][0]


@given(st.lists(st.integers(1, 20), min_size=1, max_size=7))
def test_packs_are_within_eleven_ninths_of_the_fewest_possible(lengths):
    assert len(gs.pack(lengths, 20)) <= 11 / 9 * fewest_packs(lengths, 20) + 6 / 9


def test_a_sequence_over_the_budget_is_named():
    with pytest.raises(ValueError, match="index 1 has 9 tokens, the budget of a micro-batch is 8"):
        gs.pack([3, 9], 8)


@pytest.mark.parametrize("lengths", [[1.0], [[1]], ["a"]])
def test_lengths_that_are_not_integers_are_refused(lengths):
    with pytest.raises(TypeError, match="1-D integers"):
        gs.pack(lengths, 8)
