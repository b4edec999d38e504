"""The loss of quantile reward policy optimization: its formula, its optimum, its gradient."""

import math

import numpy as np
import pytest
import torch

import gspo_rs as gs
from gspo_rs.losses import qrpo_loss, sequence_weights


def drawn(seed=0):
    """Log-probabilities of five sequences, padded, with their mask and targets."""
    draw = np.random.default_rng(seed)
    lengths = torch.tensor([4, 1, 6, 2, 3])
    new, ref = (torch.tensor(-draw.exponential(1.0, (5, 6))) for _ in range(2))
    mask = torch.arange(6) < lengths[:, None]
    return new, ref, torch.tensor(draw.normal(size=5)), mask


def authors_loss(beta, logps, ref_logps, quantiles, log_partition):
    """The square of the paper's residual, sequence by sequence."""
    return (quantiles - beta * log_partition - beta * (logps - ref_logps)) ** 2


@pytest.mark.parametrize("beta", [1e-3, 0.1, 10.0])
def test_the_loss_is_the_mean_of_the_paper_s_squares(beta):
    new, ref, _, mask = drawn()
    rewards, ids = [1.0, 0.0, 1.0, 0.5, 0.5], [0, 0, 0, 1, 1]
    quantiles, log_partition = gs.quantile_rewards(rewards, ids, beta=beta)
    sums = [(x * mask).sum(1).numpy() for x in (new, ref)]
    expected = authors_loss(beta, *sums, quantiles, log_partition).mean()
    targets = torch.from_numpy(quantiles - beta * log_partition)
    loss, metrics = qrpo_loss(new, ref, targets, mask, beta=beta)
    assert float(loss) == pytest.approx(expected, rel=1e-12)
    h = beta * (sums[0] - sums[1])
    assert float(metrics["score/mean"]) == pytest.approx(h.mean(), rel=1e-12)
    assert float(metrics["score/error"]) == pytest.approx(np.abs(targets.numpy() - h).mean())


def test_the_best_policy_has_loss_zero_where_rewards_tie_and_not_with_the_published_partition():
    """Every answer of one token: nine, of unlike chance and five rewards."""
    count = np.array([1, 4, 2, 2, 1, 3, 5, 1, 1])
    rewards, beta = np.array([0, 0, 1, 2, 2, 2, 3, 3, 4]) / 4, 0.1
    pool = np.repeat(rewards, count)  # the starting policy, answer by answer
    start = count / count.sum()
    quantiles, log_partition = gs.quantile_rewards(rewards, group_size=1, beta=beta, pool=pool)
    less = np.array([start[rewards < r].sum() for r in rewards])
    equal = np.array([start[rewards == r].sum() for r in rewards])
    np.testing.assert_allclose(quantiles, less + equal / 2, rtol=1e-14)
    best = start * np.exp(quantiles / beta)
    best /= best.sum()
    logs = [torch.from_numpy(np.log(p)) for p in (best, start)]
    lengths = torch.ones(9, dtype=torch.int64)

    def loss_at(log_partition):
        targets = torch.from_numpy(quantiles - beta * log_partition)
        return float(qrpo_loss(*logs, targets, None, beta=beta, lengths=lengths)[0])

    assert loss_at(log_partition) == pytest.approx(0, abs=1e-28)
    assert loss_at(math.log(beta) + 1 / beta) > 1e-5


def test_the_layouts_agree_and_micro_batches_add_up_to_the_step():
    new, ref, targets, mask = drawn()
    weights = sequence_weights(mask.sum(1), "seq_mean")
    whole = qrpo_loss(new, ref, targets, mask, weights)[0]
    torch.testing.assert_close(qrpo_loss(new, ref, targets, mask)[0], whole)
    total = 0.0
    for rows in ([3, 0], [1], [4, 2]):
        kept = mask[rows]
        flat = [x[rows][kept] for x in (new, ref)]
        given = targets[rows], None, weights[rows]
        total = total + qrpo_loss(*flat, *given, lengths=kept.sum(1))[0]
    torch.testing.assert_close(total, whole, rtol=1e-12, atol=0)


def test_the_gradient_is_that_of_finite_differences():
    new, ref, targets, mask = drawn()
    weights = torch.rand(5, dtype=torch.float64)

    def loss(logprobs):
        return qrpo_loss(logprobs, ref, targets, mask, weights, beta=0.3)[0]

    assert torch.autograd.gradcheck(loss, [new.requires_grad_()])


def test_a_sequence_without_a_target_is_left_out():
    new, ref, targets, mask = drawn()
    expected, metrics = qrpo_loss(new[1:], ref[1:], targets[1:], mask[1:])
    targets[0] = torch.nan
    loss, found = qrpo_loss(new.requires_grad_(), ref, targets, mask)
    loss.backward()
    torch.testing.assert_close(loss, expected)
    assert found == metrics
    assert new.grad[0].abs().sum() == 0
    assert new.grad.isfinite().all()


def test_what_does_not_fit_is_named():
    new, ref, targets, mask = drawn()
    with pytest.raises(ValueError, match=r"beta=0\.0 should be above 0"):
        qrpo_loss(new, ref, targets, mask, beta=0.0)
    with pytest.raises(ValueError, match="targets has shape"):
        qrpo_loss(new, ref, targets[:3], mask)
    with pytest.raises(ValueError, match="should have one shape"):
        qrpo_loss(new, ref[:3], targets, mask)
