"""The doctor names the fault of wrong advantage functions, and finds none in right ones."""

import numpy as np
import pytest
import torch

import gspo_rs as gs
from gspo_rs.conformance import check


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("percentile", {}),
        ("gopo", {}),
        ("mean", {}),
        ("rloo", {}),
        ("zscore", {}),
        ("top_fraction", {}),
        ("normal", {}),
        ("maxrl", {}),
        ("quantile", {}),
        ("best_minus_second", {}),
        ("batch_std", {}),
        ("reinforce_pp", {}),
    ],
)
def test_the_estimators_of_the_package_have_no_fault(name, options):
    report = check(lambda rewards, groups: gs.advantage(rewards, groups, name, **options))
    assert report.findings == (), str(report)
    same = {"gopo": "percentile", "rloo": "mean"}
    assert report.nature == same.get(name, name)


def by_group(function):
    """Apply a function of one group's rewards to each."""

    def advantages(rewards, groups):
        found = np.zeros(len(rewards))
        for group in np.unique(groups):
            found[groups == group] = function(rewards[groups == group])
        return found

    return advantages


def ordinal(rewards):
    rank = np.argsort(np.argsort(rewards))
    return 2 * rank / max(len(rewards) - 1, 1) - 1


def biased(rewards):
    return (rewards - rewards.mean()) / (rewards.std() + 1e-6)


def single_precision(rewards):
    rewards = torch.tensor(rewards, dtype=torch.float32)
    return ((rewards - rewards.mean()) / (rewards.std() + 1e-9)).numpy()


def by_position(rewards, groups):
    rows = rewards.reshape(-1, 4) if len(rewards) % 4 == 0 else rewards[None]
    return (rows - rows.mean(1, keepdims=True)).ravel()


def of_the_batch(rewards, groups):
    return rewards - rewards.mean()


def drifting(rewards, groups):
    return by_group(lambda x: x - x.mean())(rewards, groups) + 1e-3 * np.arange(len(rewards))


ESTIMATES = [
    (by_group(biased), "biased std", "1.155 in a group of 4"),
    (
        by_group(single_precision),
        "constant groups get a gradient",
        "rewards of ",
    ),
    (by_group(ordinal), "ties broken by position", "share their mean rank"),
    (by_group(ordinal), "constant groups get a gradient", "exactly 0"),
    (by_position, "groups by position", "ids are not"),
    (of_the_batch, "statistics of the batch", "beside it"),
    (by_group(lambda x: x), "no baseline", "subtract the mean"),
    (by_group(lambda x: x - x.mean()), "NaN spreads", "leave it out"),
    (by_group(lambda x: x if len(x) == 1 else x - x.mean()), "lone member", "gets advantage 3"),
    (drifting, "order of rows", "another order"),
]


@pytest.mark.parametrize(("function", "fault", "words"), ESTIMATES)
def test_a_wrong_advantage_is_told_what_is_wrong_with_it(function, fault, words):
    report = check(function, "advantage")
    assert fault in report.faults, str(report)
    assert words in str(report)
