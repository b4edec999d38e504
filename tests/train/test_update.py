"""One optimizer step: the same however it is cut, and never taken on what is not finite."""

import math
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from fixtures.runs import configured
from fixtures.tiny_models import policy_of, random_llama
from gspo_rs.losses.metrics import entropy_metrics
from gspo_rs.rollouts import Ragged
from gspo_rs.train.config.presets import Algorithm
from gspo_rs.train.step.group_metrics import order_metrics
from gspo_rs.train.step.objective import Part, policy_loss
from gspo_rs.train.step.optimizer import learning_rate, make_optimizer
from gspo_rs.train.step.training_batch import TrainingBatch, batches, recompute
from gspo_rs.train.step.update import backward, take

VOCABULARY = 31


def make_policy(shape="padded", dtype=torch.float64, seed=0):
    sizes = {"hidden": 16, "intermediate": 24, "layers": 2}
    model = random_llama(VOCABULARY, **sizes, dtype=dtype, seed=seed)
    return policy_of(model, shape=shape, temperature=0.7)


def make_training_batch(n=9, seed=0, *, old=True, ref=True):
    draw = np.random.default_rng(seed)
    lengths = draw.integers(1, 12, n)
    tokens = Ragged.from_rows([draw.integers(0, VOCABULARY, k) for k in lengths], np.int64)
    logprobs = Ragged(-draw.exponential(2.0, int(lengths.sum())).astype(np.float32), lengths)
    return TrainingBatch(
        prompts=Ragged.from_rows(
            [draw.integers(0, VOCABULARY, draw.integers(1, 6)) for _ in range(n)], np.int64
        ),
        completions=tokens,
        advantages=torch.from_numpy(draw.normal(size=n)),
        weights=torch.from_numpy(draw.random(n)),
        rewards=draw.integers(0, 4, n).astype(float),
        codes=np.sort(draw.integers(0, 3, n)),
        n_groups=3,
        targets=torch.from_numpy(draw.normal(size=n)),
        old_logprobs=logprobs if old else None,
        ref_logprobs=logprobs if ref else None,
    )


def permuted(training_batch, order):
    return TrainingBatch(
        prompts=training_batch.prompts.rows(order),
        completions=training_batch.completions.rows(order),
        advantages=training_batch.advantages[torch.from_numpy(order)],
        weights=training_batch.weights[torch.from_numpy(order)],
        rewards=training_batch.rewards[order],
        codes=training_batch.codes[order],
        n_groups=training_batch.n_groups,
        targets=training_batch.targets[torch.from_numpy(order)],
        old_logprobs=training_batch.old_logprobs.rows(order),
        ref_logprobs=training_batch.ref_logprobs.rows(order),
    )


def loss_and_gradient(policy, training_batch, config):
    policy.model.zero_grad(set_to_none=True)
    metrics, _ = backward(policy, training_batch, config)
    gradient = torch.cat([p.grad.flatten() for p in policy.trainable().values()])
    return metrics, gradient


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", get_args(Algorithm))
@pytest.mark.parametrize(("shape", "budget"), [("packed", 1), ("padded", 30), ("packed", 30)])
def test_loss_and_gradient_are_the_same_however_the_step_is_cut(algorithm, shape, budget):
    fields = {"algorithm": algorithm, "beta": 0.1}
    training_batch = make_training_batch()
    expected = loss_and_gradient(
        make_policy("padded"), training_batch, configured(**fields, micro_batch_tokens=10_000)
    )
    order = np.random.default_rng(budget).permutation(len(training_batch.prompts))
    found = loss_and_gradient(
        make_policy(shape),
        permuted(training_batch, order),
        configured(**fields, micro_batch_tokens=budget),
    )
    assert expected[1].abs().max() > 1e-3
    torch.testing.assert_close(found[1], expected[1], rtol=0, atol=1e-12)
    for name, value in expected[0].items():
        torch.testing.assert_close(found[0][name], value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("algorithm", ["gspo", "grpo", "listwise"])
@pytest.mark.parametrize(("shape", "budget"), [("packed", 1), ("padded", 30), ("packed", 30)])
def test_all_that_a_step_tells_is_the_same_however_it_is_cut(algorithm, shape, budget):
    found = []
    order = np.random.default_rng(budget).permutation(9)
    for given, layout, tokens in (
        (make_training_batch(), "padded", 10_000),
        (permuted(make_training_batch(), order), shape, budget),
    ):
        policy = make_policy(layout)
        config = configured(algorithm=algorithm, micro_batch_tokens=tokens)
        optimizer = make_optimizer(policy, config)
        metrics = take(policy, optimizer, given, config, rate=0.0)
        # Seconds are never the same.
        found.append({k: v for k, v in metrics.items() if not k.startswith("time/")})
    assert {"entropy", "entropy/p20"} < found[0].keys()
    assert {"rank/spearman_logp", "percentile/top_q_prob_shift"} < found[0].keys()
    assert found[1] == pytest.approx(found[0], rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("algorithm", ["gspo", "grpo", "listwise"])
def test_entropy_and_order_are_those_of_the_models_own_logits(algorithm):
    policy, given = make_policy(), make_training_batch()
    config = configured(algorithm=algorithm, micro_batch_tokens=30)
    entropies, logprobs, moved = [], [], []
    for row in range(len(given.prompts)):
        prompt, completion = given.prompts.row(row), given.completions.row(row)
        ids = torch.from_numpy(np.concatenate([prompt, completion]))[None]
        with torch.no_grad():
            logits = policy.model(input_ids=ids).logits[0, len(prompt) - 1 : -1] / 0.7
        dist = torch.distributions.Categorical(logits=logits)
        now = dist.log_prob(torch.from_numpy(completion)).numpy()
        entropies.append(dist.entropy().numpy())
        logprobs.append(now.mean())
        moved.append((now - given.old_logprobs.row(row)).mean())
    found = take(policy, make_optimizer(policy, config), given, config, rate=0.0)
    tokens = np.concatenate(entropies)
    expected = {"entropy": tokens.mean(), "entropy/p20": np.quantile(tokens, 0.2)}
    expected |= order_metrics(
        given.rewards, given.codes, np.array(logprobs), np.array(moved), q=config.q or 0.2
    )
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-9)


def test_without_tokens_the_entropy_is_nan_and_of_one_token_its_own():
    assert all(value.isnan() for value in entropy_metrics(torch.empty(0)).values())
    assert [float(x) for x in entropy_metrics(torch.tensor([0.25])).values()] == [0.25, 0.25]


@pytest.mark.parametrize("loss", ["plackett_luce", "pairwise", "ipo"])
def test_a_loss_of_groups_is_exact_however_the_step_is_cut(loss):
    found = [
        loss_and_gradient(
            make_policy(),
            make_training_batch(),
            configured(algorithm="listwise", loss=loss, micro_batch_tokens=tokens),
        )[1]
        for tokens in (1, 10_000)
    ]
    assert found[0].abs().max() > 1e-3
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("loss", "given", "head", "rows"),
    [
        ("gspo", "old", "linear", 3),
        ("gspo", "old", "linear", 512),
        ("gspo", "old", "adapted", 3),
        ("gspo", "nothing", "linear", 3),
        ("gspo", "sampler", "linear", 3),
        ("gspo_token", "old", "linear", 3),
        ("luspo", "old", "linear", 3),
        ("vespo", "old", "linear", 3),
        ("grpo", "old", "linear", 3),
        ("grpo", "nothing", "linear", 3),
        ("grpo", "sampler", "linear", 512),
        ("sapo", "nothing", "linear", 3),
        ("dppo", "nothing", "linear", 3),
        ("gmpo", "old", "linear", 3),
        ("cispo", "nothing", "linear", 3),
        ("reinforce", "old", "linear", 3),
    ],
)
def test_the_gradient_taken_in_one_pass_is_that_of_the_log_probabilities(loss, given, head, rows):
    training_batch = make_training_batch(old=given == "old", ref=False)
    if given == "sampler":
        training_batch = replace(
            training_batch, sampler_logprobs=make_training_batch().old_logprobs
        )
    masked = {"off_policy_mask_threshold": 5.0 if given == "sampler" else None}
    config = configured(loss=loss, micro_batch_tokens=30, **masked)
    policy = replace(make_policy(), chunk_size=rows)
    if head == "adapted":
        adapter = LoraConfig(r=2, target_modules=["lm_head"], init_lora_weights=False)
        policy = replace(policy, model=get_peft_model(policy.model, adapter).double())
    _, found = loss_and_gradient(policy, training_batch, config)
    policy.model.zero_grad(set_to_none=True)
    for batch in batches(policy, training_batch, config):
        part = Part(policy.logprobs(batch), batch.lengths, batch.rows)
        policy_loss(part, training_batch, config)[0].backward()
    expected = torch.cat([p.grad.flatten() for p in policy.trainable().values()])
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", ["packed", "padded"])
def test_logprobs_are_those_of_the_models_own_logits_one_sequence_at_a_time(shape):
    policy, training_batch = make_policy(shape), make_training_batch()
    found = recompute(policy, training_batch, configured(micro_batch_tokens=40))
    for row in range(len(training_batch.prompts)):
        prompt, completion = training_batch.prompts.row(row), training_batch.completions.row(row)
        ids = torch.from_numpy(np.concatenate([prompt, completion]))[None]
        with torch.no_grad():
            logits = policy.model(input_ids=ids).logits[0, len(prompt) - 1 : -1] / 0.7
        expected = logits.log_softmax(-1).gather(1, torch.from_numpy(completion)[:, None])[:, 0]
        np.testing.assert_allclose(found.row(row), expected, rtol=0, atol=1e-6)


def test_without_old_logprobs_every_ratio_is_exactly_one():
    metrics, _ = backward(make_policy(), make_training_batch(old=False, ref=False), configured())
    assert metrics["ratio/min"] == metrics["ratio/max"] == metrics["seq_ratio/mean"] == 1
    assert metrics["clip/token"] == 0


def test_a_step_moves_the_weights_against_the_gradient_by_the_rate():
    policy, training_batch = make_policy(), make_training_batch(ref=False)
    config = configured(max_grad_norm=0.0, adam_epsilon=1e-12)
    _, gradient = loss_and_gradient(policy, training_batch, config)
    before = torch.cat([p.detach().flatten() for p in policy.trainable().values()])
    metrics = take(policy, make_optimizer(policy, config), training_batch, config, rate=0.01)
    after = torch.cat([p.detach().flatten() for p in policy.trainable().values()])
    assert metrics["grad_norm"] == pytest.approx(gradient.norm().item(), rel=1e-12)
    large = gradient.abs() > 1e-6
    # Adam's first step has the size of the rate whatever that of the gradient.
    torch.testing.assert_close(
        (after - before)[large], -0.01 * gradient.sign()[large], rtol=1e-4, atol=0
    )


@pytest.mark.parametrize("broken", ["old_logprobs", "advantages", "weights_of_the_model"])
def test_a_step_that_is_not_finite_leaves_the_weights_and_is_counted(broken):
    policy, training_batch, config = make_policy(), make_training_batch(ref=False), configured()
    if broken == "old_logprobs":
        training_batch.old_logprobs.values[3] = np.nan
    elif broken == "advantages":
        training_batch.advantages[2] = math.inf
    else:
        recompute(
            policy, training_batch, config
        )  # once with good weights, as in the middle of a run
        policy.model.model.norm.weight.data[0] = math.nan
    before = [p.detach().clone() for p in policy.trainable().values()]
    optimizer = make_optimizer(policy, config)
    metrics = take(policy, optimizer, training_batch, config, rate=0.01)
    assert metrics["skipped"] == 1
    assert not optimizer.state
    for parameter, old in zip(policy.trainable().values(), before, strict=True):
        torch.testing.assert_close(parameter, old, rtol=0, atol=0, equal_nan=True)


def test_the_gradient_is_clipped_to_the_norm_asked_for():
    policy, training_batch = make_policy(), make_training_batch(ref=False)
    config = configured(max_grad_norm=1e-3)
    seen = []
    optimizer = make_optimizer(policy, config)
    optimizer.register_step_pre_hook(
        lambda *_: seen.append(
            torch.cat([p.grad.flatten() for p in policy.trainable().values()]).norm().item()
        )
    )
    metrics = take(policy, optimizer, training_batch, config, rate=0.0)
    assert metrics["grad_norm"] > 1e-3
    assert seen[0] == pytest.approx(1e-3, rel=1e-4)


def test_the_padded_layout_puts_sequences_of_like_length_together():
    training_batch, config = make_training_batch(40), configured(micro_batch_tokens=60)
    inputs = (training_batch.prompts.lengths + training_batch.completions.lengths - 1).sum()
    laid_out = list(batches(make_policy(), training_batch, config))
    assert sum(batch.input_ids.numel() for batch in laid_out) < 1.3 * inputs


@pytest.mark.parametrize(
    ("course", "expected"),
    [
        ("constant", [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ("linear", [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]),
        ("cosine", [0.5, 1.0, 1.0, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2]),
    ],
)
def test_the_learning_rate_warms_up_and_follows_its_course(course, expected):
    config = configured(learning_rate=1.0, warmup_steps=2, lr_scheduler_type=course)
    assert [learning_rate(config, s, 6) for s in range(1, 7)] == pytest.approx(expected)
