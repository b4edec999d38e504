"""The doctor judges what a loss does and not how it is written."""

import pytest
import torch

from gspo_rs.conformance import check


def one_sequence_at_a_time(new, old, advantages, mask):
    """A loop, with the clip as a hinge on the ratio."""
    total, live = 0.0 * new.nan_to_num().sum(), 0
    for row, a in enumerate(advantages.tolist()):
        places = mask[row].nonzero()[:, 0]
        if len(places):
            move = (new[row, places].float() - old[row, places].float()).mean().clamp(-20, 20)
            ratio = move.exp()
            over = torch.relu(ratio - 1 - 4e-4) if a > 0 else -torch.relu(1 - 3e-4 - ratio)
            total, live = total - a * (ratio - over), live + 1
    return total / max(live, 1)


def score_times_a_detached_slope(new, old, advantages, mask):
    """The gradient of GRPO written down, so that the value means nothing."""
    ratio = torch.where(mask, new.detach().float() - old.float(), 0.0).clamp(-20, 20).exp()
    a = advantages.float()[:, None]
    slope = ratio * a * mask * torch.where(a > 0, ratio <= 1.2, ratio >= 0.8)
    weight = 1 / (mask.sum(1, keepdim=True).clamp(min=1) * mask.any(1).sum())
    return -(weight * slope * torch.where(mask, new.float(), 0.0)).sum(), {"ratio": ratio}


@pytest.mark.parametrize(
    ("loss", "nature"),
    [
        (one_sequence_at_a_time, "sequence, the geometric mean; clip 0.0003 and 0.0004"),
        (score_times_a_detached_slope, "token; clip 0.2 and 0.2"),
    ],
)
def test_a_right_loss_in_an_unusual_style_has_no_fault_and_is_known(loss, nature):
    report = check(loss)
    assert report.findings == (), str(report)
    assert report.nature == f"one ratio per {nature}; weights of seq_mean"
