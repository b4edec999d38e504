import random
import sys
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import gspo_rs as gs
from gspo_rs.integrations.slime import has_signal, keep_if_signal, post_process_rewards


@dataclass
class Sample:
    """The fields of slime's own that the functions look at."""

    group_index: int | None
    reward: float | dict | None
    rollout_id: int | None = None

    def get_reward_value(self, args):
        return self.reward[args.reward_key] if args.reward_key else self.reward


ARGS = SimpleNamespace(reward_key=None, gspo_estimator="zscore")
reward = st.sampled_from([0.0, 0.25, 0.5, 0.95, 1.0])
ragged = st.lists(st.lists(reward, min_size=1, max_size=6), min_size=1, max_size=6)


def samples_of(groups):
    return [Sample(number, value) for number, group in enumerate(groups) for value in group]


def one_group_fallback(rewards):
    """What slime does with a batch whose size is not the expected one: `view(-1, n)`."""
    rows = torch.tensor(rewards, dtype=torch.float).view(-1, len(rewards))
    centred = rows - rows.mean(dim=-1, keepdim=True)
    return (centred / (centred.std(dim=-1, keepdim=True) + 1e-6)).flatten().tolist()


@given(ragged, st.integers(0, 2**32))
def test_ragged_groups_in_any_order_get_the_advantages_of_each_group_alone(groups, seed):
    samples = samples_of(groups)
    random.Random(seed).shuffle(samples)
    raw, found = post_process_rewards(ARGS, samples)
    assert raw == [sample.reward for sample in samples]
    for number, group in enumerate(groups):
        mine = [a for a, sample in zip(found, samples, strict=True) if sample.group_index == number]
        values = np.array([s.reward for s in samples if s.group_index == number])
        if len(group) < 2 or values.min() == values.max():
            expected = np.zeros(len(group))
        else:
            expected = (values - values.mean()) / (values.std(ddof=1) + 1e-6)
        assert_allclose(mine, expected, atol=1e-12)


def test_the_one_group_fallback_would_punish_the_best_answer_to_a_hard_prompt():
    easy, hard = [0.8, 0.9, 1.0, 0.9, 0.9], [0.1, 0.2, 0.6]
    fallback = one_group_fallback([*easy, *hard])
    _, found = post_process_rewards(ARGS, samples_of([easy, hard]))
    assert fallback[7] < 0 < found[7]  # the best of three hard answers
    assert fallback[0] > 0 > found[0]  # the worst of five easy ones
    assert_allclose(found[5:], gs.advantage(hard, [0, 0, 0], "zscore"))


def test_groups_may_come_as_lists_and_rewards_as_dictionaries():
    args = SimpleNamespace(reward_key="score")
    groups = [
        [Sample(None, {"score": value}) for value in group]
        for group in ([1.0, 0.0], [0.5, 0.7, 0.9])
    ]
    raw, found = post_process_rewards(args, groups)
    assert raw == [1.0, 0.0, 0.5, 0.7, 0.9]
    assert_array_equal(found, gs.advantage(raw, [0, 0, 1, 1, 1]))


def test_a_rollout_of_several_samples_counts_once_in_its_group():
    parts = [Sample(0, 1.0, 7), Sample(0, 1.0, 7), Sample(0, 0.0, 8), Sample(0, 0.0, 9)]
    _, found = post_process_rewards(SimpleNamespace(reward_key=None, gspo_estimator="mean"), parts)
    assert_allclose(found, [2 / 3, 2 / 3, -1 / 3, -1 / 3])


def test_a_reward_that_is_missing_moves_nothing():
    samples = samples_of([[1.0, None, 0.0]])
    raw, found = post_process_rewards(ARGS, samples)
    assert np.isnan(raw[1])
    assert_allclose(found, [0.5**0.5, 0.0, -(0.5**0.5)], atol=1e-5)


def test_a_sample_without_a_group_is_named():
    with pytest.raises(ValueError, match="sample at index 1 has no group_index"):
        post_process_rewards(ARGS, [Sample(0, 1.0), Sample(None, 0.0)])


@pytest.mark.parametrize(
    ("rewards", "kept"),
    [([1.0, 0.0], True), ([0.95] * 8, False), ([1.0], False), ([0.5, 0.5 + 1e-9], True)],
)
def test_the_filter_keeps_a_group_if_two_of_its_rewards_differ(monkeypatch, rewards, kept):
    # slime is on no package index; these are the fields of its answer.
    types = ModuleType("slime.rollout.filter_hub.base_types")
    types.DynamicFilterOutput = lambda keep, reason: SimpleNamespace(keep=keep, reason=reason)
    for name in ("slime", "slime.rollout", "slime.rollout.filter_hub"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, types.__name__, types)
    group = samples_of([rewards])
    assert keep_if_signal(ARGS, group) is kept
    answer = has_signal(ARGS, group, anything=1)
    assert (answer.keep, answer.reason) == (kept, None if kept else "no_signal")
    fanned_out = [[sample, sample] for sample in group]
    assert has_signal(ARGS, fanned_out).keep is kept
