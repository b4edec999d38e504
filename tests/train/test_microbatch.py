"""Micro-batches: what is laid out is what was given, in any layout and any cut."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from gspo_rs.rollouts import Ragged
from gspo_rs.train.model.microbatch import collate, split

tokens = st.lists(st.integers(1, 99), min_size=1, max_size=6)


@st.composite
def sequences(draw):
    pairs = draw(st.lists(st.tuples(tokens, tokens), min_size=1, max_size=9))
    prompts, completions = zip(*pairs, strict=True)
    return Ragged.from_rows(prompts, np.int64), Ragged.from_rows(completions, np.int64)


@given(sequences(), st.sampled_from(["packed", "padded"]))
def test_the_input_up_to_a_position_is_the_prompt_and_the_tokens_before_its_target(case, shape):
    prompts, completions = case
    order = np.arange(len(prompts))[::-1]
    batch = collate(prompts, completions, order, shape=shape)
    width = batch.input_ids.shape[1]
    flat = batch.input_ids.flatten().tolist()
    place = iter(zip(batch.positions.tolist(), batch.targets.tolist(), strict=True))
    for row in order:
        whole = [*prompts.row(row).tolist(), *completions.row(row).tolist()]
        for end in range(len(prompts.row(row)), len(whole)):
            position, target = next(place)
            first = position - end + 1
            assert flat[first : position + 1] == whole[:end]
            assert target == whole[end]
            if shape == "padded":
                assert first % width == 0
            else:
                places = batch.position_ids[0, first : position + 1]
                assert places.tolist() == list(range(end))
    assert next(place, None) is None


@given(sequences(), st.sampled_from(["packed", "padded"]), st.integers(1, 40))
def test_micro_batches_hold_every_sequence_once_and_keep_to_the_budget(case, shape, budget):
    prompts, completions = case
    cuts = split(prompts, completions, shape=shape, max_tokens=budget)
    assert_array_equal(np.sort(np.concatenate(cuts)), np.arange(len(prompts)))
    longest = int((prompts.lengths + completions.lengths - 1).max())
    for rows in cuts:
        batch = collate(prompts, completions, rows, shape=shape)
        assert batch.input_ids.numel() <= max(budget, longest)
        assert_array_equal(batch.lengths, completions.lengths[rows])


def test_a_packed_batch_has_no_padding():
    prompts = Ragged.from_rows([[1, 2], [3]], np.int64)
    completions = Ragged.from_rows([[4], [5, 6, 7]], np.int64)
    batch = collate(prompts, completions, np.array([0, 1]), shape="packed")
    assert batch.input_ids.tolist() == [[1, 2, 3, 5, 6]]


@pytest.mark.parametrize(("prompt", "completion", "name"), [([], [1], "prompt"), ([1], [], "comp")])
def test_an_empty_prompt_or_completion_is_refused(prompt, completion, name):
    rows = [Ragged.from_rows([row], np.int64) for row in (prompt, completion)]
    with pytest.raises(ValueError, match=f"the {name}.* of sequence 0 is empty"):
        collate(*rows, np.array([0]), shape="packed")


def test_no_sequences_make_no_micro_batches():
    nothing = Ragged.from_rows([], np.int64)
    assert split(nothing, nothing, shape="padded", max_tokens=8) == []
    assert torch.equal(
        collate(nothing, nothing, np.arange(0), shape="packed").lengths,
        torch.zeros(0, dtype=torch.int64),
    )
