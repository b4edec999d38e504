"""The random numbers of places: the bits of Philox, uniform, and unlike from place to place."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gspo_rs.samplers.uniforms import uniforms

WORD = 2**64


def philox(counter, key):
    """Philox4x64-10 as its paper defines it, in whole numbers."""
    (a, b, c, d), (k, m) = counter, key
    for _ in range(10):
        one, other = 0xD2E7470EE14C6C93 * a, 0xCA5A826395121157 * c
        a, b, c, d = other // WORD ^ b ^ k, other % WORD, one // WORD ^ d ^ m, one % WORD
        k, m = (k + 0x9E3779B97F4A7C15) % WORD, (m + 0xBB67AE8584CAA73B) % WORD
    return a, b, c, d


def test_the_oracle_gives_the_vector_of_the_authors():
    first = philox((0, 0, 0, 0), (0, 0))
    assert [f"{word:016x}" for word in first] == [
        "16554d9eca36314c",
        "db20fe9d672d0fdc",
        "d7e772cee186176b",
        "7e68b68aec7ba23b",
    ]


@given(
    st.integers(0, WORD - 1),
    st.lists(st.tuples(st.integers(0, 2**62), st.integers(0, 2**31)), min_size=1, max_size=3),
    st.integers(0, 200),
    st.integers(0, 9),
)
def test_each_number_is_53_bits_of_philox_at_its_place(seed, rows, start, length):
    found = uniforms(seed, rows, start, start + length)
    assert found.shape == (len(rows), length)
    for (prompt, generation), row in zip(rows, found, strict=True):
        for position, number in enumerate(row, start):
            block, word = divmod(position, 4)
            bits = philox((block + 1, generation, 0, 0), (seed, prompt))[word]
            assert number == (bits >> 11) / 2**53


def test_they_are_uniform_and_those_of_neighbours_have_nothing_in_common():
    rows = [(prompt, generation) for prompt in range(20) for generation in range(20)]
    found = uniforms(0, rows, 0, 100)
    counts = np.histogram(found, bins=20, range=(0, 1))[0]
    assert ((counts - 2000) ** 2 / 2000).sum() < 43.8  # 0.999 of chi-square, 19 degrees
    cube = found.reshape(20, 20, 100)
    for axis in range(3):
        one, other = (np.delete(cube, end, axis).ravel() for end in (-1, 0))
        assert abs(np.corrcoef(one, other)[0, 1]) < 4 / np.sqrt(one.size)
    assert len(np.unique(found)) == found.size
    assert not np.isin(uniforms(1, rows, 0, 100), found).any()


@pytest.mark.parametrize("seed", [-1, 2**64 + 5])
def test_a_seed_of_any_size_is_taken(seed):
    np.testing.assert_array_equal(
        uniforms(seed, [(0, 0)], 0, 4), uniforms(seed % WORD, [(0, 0)], 0, 4)
    )
