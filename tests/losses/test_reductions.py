import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gspo_rs.losses import sequence_weights

LENGTHS = [3, 0, 5, 1, 7]
GROUPS = ["b", "a", "a", "b", "c"]
EXPECTED = {  # fractions written out by hand: 4 sequences and 16 tokens count, in 3 groups
    "seq_mean": [1 / 12, 0, 1 / 20, 1 / 4, 1 / 28],
    "token_mean": [1 / 16, 0, 1 / 16, 1 / 16, 1 / 16],
    "prompt_mean": [1 / 12, 0, 1 / 15, 1 / 12, 1 / 21],
    "constant": [1 / 40, 0, 1 / 40, 1 / 40, 1 / 40],
    "seq_sum": [1 / 4, 0, 1 / 4, 1 / 4, 1 / 4],
}


@pytest.mark.parametrize("as_input", [list, np.array, torch.tensor])
@pytest.mark.parametrize("reduction", EXPECTED)
def test_weights_are_the_fractions_of_the_specification(reduction, as_input):
    found = sequence_weights(as_input(LENGTHS), reduction, groups=GROUPS, budget=10)
    expected = torch.tensor(EXPECTED[reduction], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-15, atol=0)


@pytest.mark.parametrize("groups", [np.array([9, 4, 4, 9, -1]), torch.tensor([9, 4, 4, 9, -1])])
def test_groups_may_be_any_ids(groups):
    found = sequence_weights(LENGTHS, "prompt_mean", groups=groups)
    torch.testing.assert_close(found, sequence_weights(LENGTHS, "prompt_mean", groups=GROUPS))


def test_a_group_without_a_token_is_not_counted():
    found = sequence_weights([2, 0, 2], "prompt_mean", groups=[0, 1, 0])
    assert found.tolist() == [0.25, 0.0, 0.25]


@given(st.lists(st.integers(0, 50), max_size=20), st.sampled_from(["seq_mean", "token_mean"]))
def test_means_weigh_all_tokens_by_one_in_all(lengths, reduction):
    weights = sequence_weights(np.array(lengths, dtype=np.int64), reduction)
    total = float((weights * torch.tensor(lengths, dtype=torch.float64)).sum())
    assert total == pytest.approx(1.0 if any(lengths) else 0.0)


@pytest.mark.parametrize("reduction", EXPECTED)
def test_a_step_without_tokens_has_weight_zero(reduction):
    assert sequence_weights([0, 0], reduction, groups=[0, 1], budget=1).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("lengths", "options", "message"),
    [
        ([1], {"reduction": "mean"}, "unknown reduction 'mean'; one of seq_mean"),
        ([1], {"reduction": "prompt_mean"}, "needs groups"),
        ([1], {"reduction": "prompt_mean", "groups": [0, 1]}, r"groups has shape \(2,\)"),
        ([1], {"reduction": "constant"}, "needs a positive budget in tokens, not None"),
        ([1], {"reduction": "constant", "budget": 0}, "needs a positive budget"),
        ([1, -1], {}, "counts of at least 0"),
        ([[1]], {}, r"\(B,\) counts"),
    ],
)
def test_what_does_not_fit_is_named(lengths, options, message):
    with pytest.raises(ValueError, match=message):
        sequence_weights(lengths, **options)
