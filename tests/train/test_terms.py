"""Groups without signal: left out of the forward pass where that is exact, and only there."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from fixtures import runs
from gspo_rs import advantage, top_fraction
from gspo_rs.rollouts import Ragged, Rollouts
from gspo_rs.train.config.presets import GROUP_LOSSES, OPTIONS, SCORE_LOSSES
from gspo_rs.train.model.policy import Policy
from gspo_rs.train.rollout.collect import RolloutBatch
from gspo_rs.train.rollout.prepare import minibatches
from gspo_rs.train.step.objective import teaches_all
from gspo_rs.train.step.training_batch import TrainingBatch
from gspo_rs.train.step.update import backward, take

pytestmark = pytest.mark.filterwarnings("ignore:clip_low=")

WORDS, SIZE = 13, 3
BUDGET = 9
TIED = [[0.0, 1.0, 0.4], [2.0] * 3, [0.3] * 3, [0.0] * 3, [1.0, 1.0, 0.0], [3.0] * 3]


@pytest.fixture(scope="module")
def policy():
    torch.manual_seed(0)
    # Not a Llama, whose norms round to float32: a sum of gradients is that of the sum no longer.
    shape = {"n_embd": 8, "n_layer": 1, "n_head": 1, "n_positions": 64}
    settings = GPT2Config(vocab_size=WORDS, initializer_range=0.5, **shape)
    model = GPT2LMHeadModel(settings).double().eval()
    return Policy(model, None, torch.device("cpu"), None, "padded", 64, 1.0)


def configured(**fields):
    given = {"prompts_per_step": 6, "max_completion_length": BUDGET, "micro_batch_tokens": 20}
    return runs.configured(**given, **fields)


def drawn(rewards=TIED):
    """Groups of three completions of 1 to 7 tokens, under a policy that was another."""
    draw = np.random.default_rng(1)
    n = len(rewards) * SIZE
    lengths = draw.integers(1, 8, n)
    return Rollouts(
        offsets=np.arange(len(rewards) + 1) * SIZE,
        prompts=["p"] * n,
        completions=["c"] * n,
        reward=np.concatenate([np.array(group) for group in rewards]),
        prompt_tokens=Ragged.from_rows([draw.integers(0, WORDS, 1 + i % 3) for i in range(n)], int),
        completion_tokens=Ragged.from_rows([draw.integers(0, WORDS, k) for k in lengths], int),
    )


def elsewhere(rollouts, seed):
    """Log-probabilities of all tokens under another policy."""
    draw = np.random.default_rng(seed)
    lengths = rollouts.completion_tokens.lengths
    values = -2.5 + draw.normal(size=int(lengths.sum())) / 3
    return Ragged(values.astype(np.float32), lengths)


def taught(rollouts, config):
    """The training batch of the step, its log-probabilities, and theirs for every row."""
    nothing = np.zeros(rollouts.n_rollouts, dtype=bool)
    (minibatch,) = minibatches(RolloutBatch(rollouts, nothing, {}), config)
    training_batch = TrainingBatch.of(minibatch, config.reduction, config.max_completion_length)
    old, ref = elsewhere(rollouts, 2), elsewhere(rollouts, 3)
    rows = minibatch.trained
    return (
        replace(training_batch, old_logprobs=old.rows(rows), ref_logprobs=ref.rows(rows)),
        old,
        ref,
    )


def gradient_of(policy, training_batch, config):
    policy.model.zero_grad(set_to_none=True)
    backward(policy, training_batch, config)
    return torch.cat([p.grad.flatten() for p in policy.trainable().values()])


def padded(values):
    rows = [torch.as_tensor(values.row(row)).double() for row in range(len(values))]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)


def logprobs_of_all(policy, rollouts):
    """Log-probabilities of every row, (n, T), one row at a time, with their mask."""
    found = []
    for row in range(rollouts.n_rollouts):
        prompt, text = rollouts.prompt_tokens.row(row), rollouts.completion_tokens.row(row)
        ids = torch.from_numpy(np.concatenate([prompt, text]))[None]
        logits = policy.model(input_ids=ids).logits[0, len(prompt) - 1 : -1]
        found.append(logits.log_softmax(-1).gather(1, torch.from_numpy(text)[:, None])[:, 0])
    lengths = torch.tensor([len(row) for row in found])
    now = torch.nn.utils.rnn.pad_sequence(found, batch_first=True)
    return now, (torch.arange(now.shape[1]) < lengths[:, None]).double()


def trl_loss(policy, rollouts, config, old, ref):
    """The loss as TRL writes it, over all rows: none is left out."""
    now, mask = logprobs_of_all(policy, rollouts)
    old, ref = padded(old), padded(ref)
    adv = advantage(rollouts.reward, np.repeat(np.arange(6), SIZE), config.advantage)
    adv = torch.from_numpy(adv)[:, None]
    log_ratio = (now - old) * mask
    if config.loss == "gspo":
        log_ratio = (log_ratio.sum(1) / mask.sum(1))[:, None]
    ratio = log_ratio.exp()
    clipped = ratio.clamp(1 - config.clip_low, 1 + config.clip_high)
    x = (ref - now) * mask
    kl = {"k3_is": ratio * (x.exp() - x - 1), "k3": x.exp() - x - 1, "k2": x**2 / 2}
    each = -torch.minimum(ratio * adv, clipped * adv) + config.beta * kl[config.kl_estimator]
    each = each * mask
    sums = {
        "seq_mean": (each.sum(1) / mask.sum(1)).mean(),
        "token_mean": each.sum() / mask.sum(),
        "constant": each.sum() / (len(each) * BUDGET),
    }
    return sums[config.reduction]


def gradient_of_loss(policy, loss):
    policy.model.zero_grad(set_to_none=True)
    loss.backward()
    return torch.cat([p.grad.flatten() for p in policy.trainable().values()])


@pytest.mark.slow
@pytest.mark.parametrize("beta", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("estimator", ["k3_is", "k3", "k2"])
@pytest.mark.parametrize(
    ("loss", "reduction"),
    [("grpo", "seq_mean"), ("grpo", "token_mean"), ("grpo", "constant"), ("gspo", "seq_mean")],
)
def test_the_gradient_is_that_of_trl_where_four_of_six_groups_tie(
    policy, loss, reduction, estimator, beta
):
    rollouts = drawn()
    config = configured(
        algorithm=loss,
        advantage="zscore",
        reduction=reduction,
        kl_estimator=estimator,
        beta=beta,
        clip_low=0.2,
        clip_high=0.2,
    )
    training_batch, old, ref = taught(rollouts, config)
    expected = gradient_of_loss(policy, trl_loss(policy, rollouts, config, old, ref))
    assert expected.abs().max() > 1e-3
    found = gradient_of(policy, training_batch, config)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    assert len(training_batch.prompts) == (18 if beta else 6)  # no more than the penalty needs


@pytest.mark.slow
@pytest.mark.parametrize("loss", sorted(set(OPTIONS) - SCORE_LOSSES))
@pytest.mark.parametrize("correction", ["none", "sequence_truncate"])
def test_each_loss_with_a_penalty_is_that_of_all_rows(policy, loss, correction):
    """By linearity: the gradient without the penalty, and that of the penalty over all rows."""
    rollouts = drawn()
    fields = {"loss": loss, "reduction": "token_mean", "kl_estimator": "k3"}
    without = configured(beta=0.0, **fields)
    config = configured(beta=0.4, **fields)
    if correction != "none":
        masked = {"correction": correction, "off_policy_mask_threshold": 0.1}
        without, config = (replace(c, **masked) for c in (without, config))
    plain = taught(rollouts, without)[0]
    training_batch, _, ref = taught(rollouts, config)
    now, mask = logprobs_of_all(policy, rollouts)
    x = (padded(ref) - now) * mask
    penalty = gradient_of_loss(policy, 0.4 * (x.exp() - x - 1).sum() / mask.sum())
    expected = gradient_of(policy, plain, without) + penalty
    torch.testing.assert_close(
        gradient_of(policy, training_batch, config), expected, rtol=0, atol=1e-10
    )
    assert penalty.abs().max() > 1e-3


@pytest.mark.parametrize("loss", ["gspo", "grpo", "top_fraction"])
def test_a_step_in_which_all_groups_tie_still_pulls_back_to_the_reference(policy, loss):
    rollouts = drawn([[1.0] * SIZE] * 6)
    config = configured(loss=loss, beta=0.5, kl_estimator="k2")
    training_batch, _, ref = taught(rollouts, config)
    training_batch = replace(training_batch, old_logprobs=None)
    state = {name: p.detach().clone() for name, p in policy.trainable().items()}

    def apart():
        with torch.no_grad():
            now, mask = logprobs_of_all(policy, rollouts)
        x = (now - padded(ref)) * mask
        if loss != "top_fraction":
            return float((x**2).sum())
        h = 0.5 * x.sum(1).reshape(-1, SIZE)  # the target of a tied group is the uniform one
        return float(-h.log_softmax(1).sum())

    before = apart()
    optimizer = torch.optim.SGD(policy.trainable().values(), lr=1e-3)
    metrics = take(policy, optimizer, training_batch, config, rate=1e-3)
    after = apart()
    for name, p in policy.trainable().items():
        p.data.copy_(state[name])
    assert metrics["skipped"] == 0
    assert metrics["grad_norm"] > 1e-3
    assert after < before


@pytest.mark.parametrize("loss", sorted(GROUP_LOSSES))
def test_a_loss_of_groups_is_that_of_all_rows(policy, loss):
    rollouts = drawn()
    config = configured(loss=loss, beta=0.3)
    training_batch, _, ref = taught(rollouts, config)
    now, mask = logprobs_of_all(policy, rollouts)
    x = ((now - padded(ref)) * mask).sum(1)
    h = (x / mask.sum(1) if loss == "ipo" else 0.3 * x).reshape(6, SIZE)
    expected = gradient_of_loss(policy, of_all_groups(loss, h) / 6)
    torch.testing.assert_close(
        gradient_of(policy, training_batch, config), expected, rtol=0, atol=1e-10
    )
    assert expected.abs().max() > 1e-4
    assert len(training_batch.prompts) == (18 if loss == "top_fraction" else 6)


def of_all_groups(loss, scores):
    """The losses of groups of three as their formulas read, tied groups included."""
    total = scores.sum() * 0
    for h, rewards in zip(scores, TIED, strict=True):
        r = np.array(rewards)
        pairs = [(i, j) for i in range(SIZE) for j in range(SIZE) if r[i] > r[j]]
        if loss == "top_fraction":
            target = top_fraction(r, [0] * SIZE, 0.2) / (0.2 * SIZE)
            total = total - (torch.from_numpy(target) * h.log_softmax(0)).sum()
        elif loss == "pairwise":
            total = total - sum(torch.nn.functional.logsigmoid(h[i] - h[j]) for i, j in pairs) / 3
        elif loss == "plackett_luce" and pairs:
            total = total - torch.log(sum(likelihood(h, order) for order in orders(r)))
        elif loss in ("dpo", "ipo") and pairs:
            margin = h[int(r.argmax())] - h[int(r.argmin())]
            nearer = (margin - 1 / 0.6) ** 2
            total = total + (nearer if loss == "ipo" else -torch.nn.functional.logsigmoid(margin))
    return total


def orders(rewards):
    """Every order of the members that the rewards allow."""
    from itertools import permutations

    return [p for p in permutations(range(SIZE)) if (np.diff(rewards[list(p)]) <= 0).all()]


def likelihood(h, order):
    """Plackett and Luce: each next one drawn from those that are left."""
    odds = h[list(order)].exp()
    rest = odds.flip(0).cumsum(0).flip(0)
    return (odds / rest).prod()


def test_the_gradient_with_tied_groups_is_that_of_finite_differences(policy):
    rollouts = drawn()
    config = configured(algorithm="grpo", beta=0.7)
    training_batch, _, _ = taught(rollouts, config)
    weight = policy.model.lm_head.weight
    policy.model.zero_grad(set_to_none=True)
    backward(policy, training_batch, config)
    found, step = weight.grad[:3, :3].clone(), 1e-6
    for i in range(3):
        for j in range(3):
            values = []
            for sign in (1, -1):
                weight.data[i, j] += sign * step
                values.append(float(backward(policy, training_batch, config)[0]["loss"]))
                weight.data[i, j] -= sign * step
            assert found[i, j] == pytest.approx((values[0] - values[1]) / (2 * step), abs=1e-8)


def test_renormalising_leaves_groups_without_signal_out_of_the_penalty_too(policy):
    rollouts = drawn()
    config = configured(algorithm="grpo", beta=0.3, renormalise=True)
    training_batch, old, ref = taught(rollouts, config)
    signal = np.array([len(set(group)) > 1 for group in TIED])
    alone = rollouts.select(np.flatnonzero(signal))
    other = configured(algorithm="grpo", beta=0.3)
    again, _, _ = taught(alone, other)
    rows = np.flatnonzero(np.repeat(signal, SIZE))
    again = replace(again, old_logprobs=old.rows(rows), ref_logprobs=ref.rows(rows))
    found = gradient_of(policy, training_batch, config)
    torch.testing.assert_close(found, gradient_of(policy, again, other), rtol=0, atol=1e-12)
    assert len(training_batch.prompts) == 6


def test_the_loss_of_qrpo_is_that_of_all_rows_tied_groups_included(policy):
    rollouts = drawn()
    config = configured(algorithm="qrpo", beta=0.3)
    training_batch, _, ref = taught(rollouts, config)
    now, mask = logprobs_of_all(policy, rollouts)
    h = 0.3 * ((now - padded(ref)) * mask).sum(1)
    targets = []
    for group in TIED:
        for i, reward in enumerate(group):
            others = group[:i] + group[i + 1 :]
            q, *known = (sum((x < r) + (x == r) / 2 for x in others) / 2 for r in (reward, *others))
            targets.append(q - 0.3 * np.log(np.mean(np.exp(np.array(known) / 0.3))))
    expected = gradient_of_loss(policy, (torch.tensor(targets) - h).square().mean())
    torch.testing.assert_close(
        gradient_of(policy, training_batch, config), expected, rtol=0, atol=1e-10
    )
    assert expected.abs().max() > 1e-4
    assert len(training_batch.prompts) == 18


def test_only_terms_that_tied_groups_change_send_them_through_the_model():
    assert [teaches_all(configured(loss=loss)) for loss in ("gspo", "top_fraction", "dpo")] == [
        False,
        True,
        False,
    ]
    assert teaches_all(configured(beta=0.1))
    assert teaches_all(configured(loss="qrpo"))
    assert not teaches_all(configured(loss="pairwise", beta=0.1))
