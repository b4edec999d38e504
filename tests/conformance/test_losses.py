"""The doctor names the fault of deliberately wrong functions, and finds none in right ones."""

import math

import pytest
import torch

from gspo_rs import losses
from gspo_rs.cli.doctor import doctor
from gspo_rs.conformance import check

RIGHT = "gspo gspo_token grpo sapo cispo gmpo luspo vespo dppo reinforce"


@pytest.mark.slow
@pytest.mark.parametrize("name", RIGHT.split())
def test_the_losses_of_the_package_have_no_fault(name):
    report = check(getattr(losses, f"{name}_loss"), "loss")
    assert report.findings == (), str(report)


def constant_budget(new, old, advantages, mask):
    weights = losses.sequence_weights(mask.sum(1), "constant", budget=64)
    return losses.grpo_loss(new, old, advantages, mask, weights)


def dual_clip(new, old, advantages, mask):
    return losses.grpo_loss(new, old, advantages, mask, dual_clip=3.0)[0]


@pytest.mark.parametrize("loss", [constant_budget, dual_clip])
def test_a_free_choice_is_no_fault(loss):
    assert check(loss).findings == ()


def expression(
    new,
    old,
    advantages,
    mask,
    *,
    level="sequence",
    low=3e-4,
    high=4e-4,
    pick=torch.minimum,
    reduce=None,
):
    """A plain loss, right but for what the tests below change."""
    mask = mask.to(new.dtype)
    count = mask.sum(1).clamp(min=1)
    log_ratio = torch.where(mask > 0, new.float() - old.float(), 0.0).double()
    if level == "sequence":
        log_ratio = (log_ratio.sum(1) / count).unsqueeze(1).expand_as(mask)
    ratio = log_ratio.clamp(-20, 20).exp()
    a = advantages.unsqueeze(1)
    terms = -pick(ratio * a, ratio.clamp(1 - low, 1 + high) * a) * mask
    if reduce is not None:
        return reduce(terms, mask)
    live = (mask.sum(1) > 0).sum().clamp(min=1)
    return (terms.sum(1) / count).sum() / live


def plain_tokens(new, old, advantages, mask):
    """What most would write, with the two details that most forget."""
    log_ratio = torch.where(mask, new.float() - old.float(), 0.0).clamp(-20, 20)
    ratio, a = log_ratio.exp(), advantages.float()[:, None]
    terms = -torch.minimum(ratio * a, ratio.clamp(0.8, 1.28) * a) * mask
    return (terms.sum(1) / mask.sum(1).clamp(min=1)).sum() / (mask.sum(1) > 0).sum()


@pytest.mark.parametrize("loss", [expression, plain_tokens])
def test_a_plain_expression_that_is_right_has_no_fault(loss):
    report = check(loss)
    assert report.findings == (), str(report)


def wide_clip(*batch):
    return expression(*batch, low=0.2, high=0.2)


def swapped(*batch):
    return expression(*batch, pick=torch.maximum)


def both_sides(*batch):
    return expression(*batch, pick=lambda _, clipped: clipped)


def token_mean(*batch):
    return expression(*batch, level="token", reduce=lambda x, mask: x.sum() / mask.sum())


def padded_length(*batch):
    return expression(*batch, level="token", reduce=lambda x, _: x.mean())


def summed_over_sequences(*batch):
    return expression(*batch, reduce=lambda x, mask: (x.sum(1) / mask.sum(1).clamp(min=1)).sum())


def counts_empty(*batch):
    return expression(*batch, reduce=lambda x, mask: (x.sum(1) / mask.sum(1).clamp(min=1)).mean())


def divides_by_zero(*batch):
    return expression(*batch, reduce=lambda x, mask: (x.sum(1) / mask.sum(1)).mean())


def no_mask(new, old, advantages, mask):
    return -((new - old).clamp(-20, 20).exp() * advantages[:, None]).mean(1).mean()


def off_by_one(new, old, advantages, mask):
    shifted = [x[:, 1:] for x in (new, old)]
    return expression(*shifted, advantages, mask[:, :-1], level="token")


def multiplies_by_the_mask(new, old, advantages, mask):
    ratio = ((new - old) * mask).clamp(-20, 20).exp()
    return -((ratio * advantages[:, None] * mask).sum(1) / mask.sum(1).clamp(min=1)).mean()


def summed_ratio(new, old, advantages, mask):
    log_ratio = torch.where(mask, new.float() - old.float(), 0.0)
    ratio = log_ratio.sum(1).clamp(-20, 20).exp()
    return -(ratio * advantages).mean()


def padded_mean_ratio(new, old, advantages, mask):
    ratio = torch.where(mask, new - old, 0.0).mean(1).clamp(-20, 20).exp()
    terms = torch.minimum(ratio * advantages, ratio.clamp(1 - 3e-4, 1 + 4e-4) * advantages)
    return -terms.mean()


def no_clamp(new, old, advantages, mask):
    ratio = torch.where(mask, new - old, 0.0).exp()
    terms = torch.minimum(ratio * advantages[:, None], ratio.clamp(0.8, 1.2) * advantages[:, None])
    return -(torch.where(mask, terms, 0.0).sum(1) / mask.sum(1).clamp(min=1)).mean()


def low_precision(new, old, advantages, mask):
    ratio = (torch.where(mask, new - old, 0.0).sum(1) / mask.sum(1).clamp(min=1)).exp()
    terms = torch.minimum(ratio * advantages, ratio.clamp(1 - 3e-4, 1 + 4e-4) * advantages)
    return -terms.mean()


def maximises(*batch):
    return -expression(*batch)


def standardises(new, old, advantages, mask):
    advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-6)
    return expression(new, old, advantages, mask)


def detached(new, old, advantages, mask):
    return expression(new.detach(), old, advantages, mask) + 0 * new.nan_to_num().sum()


def last_column_is_the_length(new, old, advantages, mask):
    columns = torch.arange(mask.shape[1])
    length = torch.where(mask, columns, -1).amax(1) + 1
    terms = torch.where(mask, (new - old).clamp(-20, 20), 0.0).exp() * mask * advantages[:, None]
    return -(terms.sum(1) / length.clamp(min=1)).mean()


def tokens(new, old, advantages, mask, low=0.8, high=1.2):
    return expression(new, old, advantages, mask, level="token", low=1 - low, high=high - 1)


def first_token_only(new, old, advantages, mask):
    return tokens(new, old, advantages, mask & (torch.arange(mask.shape[1]) == 0))


def good_ones_only(new, old, advantages, mask):
    return tokens(new, old, advantages.clamp(min=0), mask)


def band_beside_one(new, old, advantages, mask):
    return tokens(new, old, advantages, mask, low=1 + 3e-4, high=1 + 4e-4)


def advantage_of_the_neighbour(new, old, advantages, mask):
    return tokens(new, old, advantages.roll(1), mask)


def all_are_good(new, old, advantages, mask):
    return tokens(new, old, advantages.abs(), mask)


def one_ratio_for_the_batch(new, old, advantages, mask):
    log_ratio = torch.where(mask, new.float() - old.float(), 0.0).sum() / mask.sum()
    return -(log_ratio.clamp(-20, 20).exp() * advantages).mean()


def kl_by_k1(new, old, advantages, mask):
    reference = torch.where(mask, new - old + 0.1, 0.0).sum() / mask.sum()
    return tokens(new, old, advantages, mask) + 0.1 * reference


def mean_of_ratios(new, old, advantages, mask):
    log_ratio = torch.where(mask, new.float() - old.float(), 0.0).clamp(-20, 20)
    ratio = (log_ratio.exp() * mask).sum(1) / mask.sum(1).clamp(min=1)
    terms = torch.minimum(ratio * advantages, ratio.clamp(1 - 3e-4, 1 + 4e-4) * advantages)
    return -terms.sum() / (mask.sum(1) > 0).sum()


def clip_of_sequences_on_tokens(*batch):
    return tokens(*batch, low=1 - 3e-4, high=1 + 4e-4)


def clip_from_above(*batch):
    return expression(
        *batch,
        pick=lambda free, clipped: torch.where(
            batch[2][:, None] > 0, torch.minimum(free, clipped), free
        ),
    )


WRONG = [
    (clip_from_above, "clip on one side", "above 1.0004"),
    (first_token_only, "tokens without gradient", "14 of 18 sampled tokens"),
    (good_ones_only, "tokens without gradient", "no clip may act"),
    (band_beside_one, "tokens without gradient", "every ratio is 1"),
    (advantage_of_the_neighbour, "advantages mixed up", "the gradient of the others"),
    (one_ratio_for_the_batch, "advantages mixed up", "twice the advantage of one"),
    (all_are_good, "sign reversed", "11 of 18 tokens"),
    (kl_by_k1, "term without advantage", "k1"),
    (mean_of_ratios, "mean of ratios", "exp of the mean"),
    (clip_of_sequences_on_tokens, "clip always binds", "epsilon 0.0004"),
    (wide_clip, "clip never binds", "epsilon 0.2"),
    (swapped, "clip reversed", "the better of the two"),
    (both_sides, "clipped on both sides", "ratio 1"),
    (token_mean, "local mean", "tokens of the micro-batch"),
    (padded_length, "divides by padded length", "multiply the gradient by 0.5"),
    (summed_over_sequences, "scaled", "4 times that of the mean over 4"),
    (counts_empty, "empty sequence", "by 0.75"),
    (divides_by_zero, "empty sequence", "gives NaN"),
    (no_mask, "mask ignored", "18 tokens outside"),
    (off_by_one, "mask shifted", "one column after"),
    (multiplies_by_the_mask, "NaN outside the mask", "torch.where"),
    (summed_ratio, "summed sequence ratio", "6 times too high"),
    (padded_mean_ratio, "divides by padded length", "by the 8 columns, not by its 6 tokens"),
    (no_clamp, "overflow", "clamp it to 20"),
    (low_precision, "low precision", "off"),
    (maximises, "sign reversed", "less likely"),
    (standardises, "normalises advantages inside", "not 2"),
    (detached, "no gradient", "detached"),
    (last_column_is_the_length, "holes in the mask", "mask.sum"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("loss", "fault", "words"), WRONG)
def test_a_wrong_loss_is_told_what_is_wrong_with_it(loss, fault, words):
    report = check(loss, "loss")
    assert fault in report.faults, str(report)
    assert words in str(report)


def test_the_nature_of_a_loss_is_read_off_its_gradient():
    assert check(losses.gspo_loss, "loss").nature == (
        "one ratio per sequence, the geometric mean; clip 0.0003 and 0.0004; weights of seq_mean"
    )
    assert "one ratio per token; clip 0.2 and 0.2" in check(losses.grpo_loss, "loss").nature


def test_the_doctor_prints_what_it_found_and_its_code_tells_whether_anything(tmp_path, capsys):
    path = tmp_path / "mine.py"
    path.write_text(
        "def right(rewards, groups):\n"
        "    import gspo_rs\n"
        "    return gspo_rs.advantage(rewards, groups)\n"
        "def wrong(logprobs, old_logprobs, advantages, mask):\n"
        "    return -((logprobs - old_logprobs).exp() * advantages[:, None] * mask).mean()\n"
        "def strange(a, b, c):\n"
        "    return a\n"
    )
    assert doctor(f"{path}:right") == 0
    assert capsys.readouterr().out == "advantage: percentile\nnothing wrong found\n"
    assert doctor(f"{path}:wrong") == 1
    assert "- divides by padded length: " in capsys.readouterr().out
    assert doctor(f"{path}:strange") == 2
    assert "strange needs 3 arguments" in capsys.readouterr().err
    assert doctor(f"{path}:none") == 2
    assert "no function none there" in capsys.readouterr().err


def test_a_function_that_returns_something_else_is_refused():
    with pytest.raises(TypeError, match="not a scalar tensor"):
        check(lambda a, b, c, d: a)
    with pytest.raises(TypeError, match="has shape"):
        check(lambda a, b: math.pi)
