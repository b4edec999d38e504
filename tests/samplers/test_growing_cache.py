"""The cache that grows in place holds what transformers' holds, and copies no token for another."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import DynamicCache, MistralConfig
from transformers.cache_utils import DynamicSlidingWindowLayer

from gspo_rs.samplers.growing_cache import grow, keeps_rows_apart

WINDOW = 5
WINDOWED = MistralConfig(num_hidden_layers=1, sliding_window=WINDOW)


def both(windowed, most, **options):
    """The cache of transformers, and ours."""
    theirs, ours = (DynamicCache(config=WINDOWED if windowed else None) for _ in range(2))
    grow(ours, most, **options)
    return theirs, ours


@given(
    st.booleans(),
    st.booleans(),
    st.integers(1, 40),
    st.lists(
        st.one_of(
            st.tuples(st.just("read"), st.integers(1, 9)),
            st.tuples(st.just("repeat"), st.integers(1, 3)),
            st.tuples(st.just("choose"), st.integers(0, 2**20)),
        ),
        min_size=1,
        max_size=20,
    ),
)
def test_it_holds_what_the_cache_of_transformers_holds(windowed, transposed, most, turns):
    theirs, ours = both(windowed, most, transposed=transposed)
    rows, draw = 2, torch.Generator().manual_seed(0)
    for what, n in turns:
        if what == "read":
            new = torch.randn(2, rows, 3, n, 4, generator=draw)
            for one, other in zip(ours.update(*new, 0), theirs.update(*new, 0), strict=True):
                assert torch.equal(one, other)
        elif what == "repeat" and rows * n <= 12:
            rows *= n
            for cache in (ours, theirs):
                cache.batch_repeat_interleave(n)
        elif what == "choose":
            chosen = torch.tensor([row for row in range(rows) if n >> row & 1] or [0])
            rows = len(chosen) if theirs.get_seq_length() else rows
            for cache in (ours, theirs):
                cache.batch_select_indices(chosen)
        assert ours.get_seq_length() == theirs.get_seq_length()
        assert ours.get_mask_sizes(1, 0) == theirs.get_mask_sizes(1, 0)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("windowed", [False, True])
def test_most_tokens_are_written_behind_those_before_them(windowed, transposed):
    _, cache = both(windowed, 1000, transposed=transposed)
    state, moves, place = torch.ones(2, 1, 1, 4), 0, None
    for _ in range(1000):
        keys, _ = cache.update(state, state, 0)
        start = keys.untyped_storage().data_ptr()
        moves, place = moves + (start != place), start
    # A window is moved once its memory, twice as long, is full; all keys whenever they double.
    assert keys.stride(2) == (1 if transposed else 4)
    assert moves < (1000 / WINDOW + 3 if windowed else 12)


def test_it_takes_no_more_memory_than_the_longest_row_needs():
    _, cache = both(False, 33)
    for n in (20, *[1] * 13):
        state = torch.ones(2, 1, n, 4)
        keys, _ = cache.update(state, state, 0)
    assert keys.untyped_storage().nbytes() == 2 * 33 * 4 * 4


def test_only_keys_and_values_of_transformers_own_kinds_are_known_to_keep_rows_apart():
    class Other(DynamicSlidingWindowLayer):
        pass

    cache = DynamicCache(config=WINDOWED)
    assert keeps_rows_apart(cache)
    cache.layers = [*cache.layers, Other(3)]
    assert not keeps_rows_apart(cache)
    assert not keeps_rows_apart(None)
