"""Tokens that the policy read and did not sample: in no loss, metric or length, in any layout."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from fixtures.runs import configured, weights
from fixtures.tiny_models import policy_of, random_llama
from gspo_rs import data
from gspo_rs.losses.reductions import sequence_weights
from gspo_rs.rollouts import Ragged, Rollouts
from gspo_rs.train import metrics, train
from gspo_rs.train.config.config import Config, ConfigError, resolve
from gspo_rs.train.halfway import Halfway, restored
from gspo_rs.train.rollout.collect import RolloutBatch
from gspo_rs.train.rollout.prepare import minibatches, plain_batches
from gspo_rs.train.step.training_batch import recompute
from gspo_rs.train.step.update import backward

pytestmark = pytest.mark.usefixtures("one_thread")

VOCABULARY = 17


@pytest.fixture(scope="module")
def model():
    return random_llama(VOCABULARY, layers=2)


def masked_rollouts(n=6, seed=0, tail=()):
    """Two groups of completions of several stretches, each ending with the tokens `tail`, read."""
    draw = np.random.default_rng(seed)
    lengths = draw.integers(3, 12, n)
    tokens = [[*draw.integers(1, VOCABULARY, k), *tail] for k in lengths]
    mask = [[True, *(draw.random(k - 1) < 0.5), *([False] * len(tail))] for k in lengths]
    old = [[*-draw.exponential(2.0, k), *([np.nan] * len(tail))] for k in lengths]
    for row, sampled in zip(old, mask, strict=True):
        row[:] = np.where(sampled, row, np.nan)  # what is not sampled has none that counts
    return Rollouts(
        offsets=np.array([0, n // 2, n]),
        prompts=["p"] * n,
        completions=["c"] * n,
        reward=draw.permutation(n).astype(float),
        prompt_tokens=Ragged.from_rows(
            [draw.integers(0, VOCABULARY, draw.integers(1, 5)) for _ in range(n)], np.int64
        ),
        completion_tokens=Ragged.from_rows(tokens, np.int64),
        completion_mask=Ragged.from_rows(mask, np.bool_),
        old_logprobs=Ragged.from_rows(old, np.float64),
    )


def step_of(rollouts, config):
    """The step that a configuration makes of rollouts, with their old log-probabilities."""
    nothing = np.zeros(rollouts.n_rollouts, dtype=bool)
    (cut,) = minibatches(RolloutBatch(rollouts, nothing, {}), config)
    (step,) = plain_batches([cut], config)
    old = cut.sampled(rollouts.old_logprobs)
    return replace(step, old_logprobs=old, ref_logprobs=old if config.beta else None)


def gradient_of(policy, step, config):
    policy.model.zero_grad(set_to_none=True)
    found, _ = backward(policy, step, config)
    return found, torch.cat([p.grad.flatten() for p in policy.trainable().values()])


def by_hand(model, rollouts, advantages, config):
    """Loss and metrics from whole rows of logits in float64, multiplied by the mask."""
    counts = [int(rollouts.completion_mask.row(row).sum()) for row in range(rollouts.n_rollouts)]
    scale = sequence_weights(counts, config.reduction, np.repeat([0, 1], 3))
    loss, ratios, entropies = 0.0, [], []
    for row, count in enumerate(counts):
        prompt, completion = rollouts.prompt_tokens.row(row), rollouts.completion_tokens.row(row)
        ids = torch.from_numpy(np.concatenate([prompt, completion]))[None]
        logits = model(input_ids=ids).logits[0, len(prompt) - 1 : -1].double() / 0.7
        dist = torch.distributions.Categorical(logits=logits)
        on = torch.from_numpy(rollouts.completion_mask.row(row)).double()
        # Whatever label stands where nothing was sampled, it is multiplied by 0.
        labels = torch.where(on > 0, torch.from_numpy(completion), (row + 3) % VOCABULARY)
        old = torch.nan_to_num(torch.from_numpy(rollouts.old_logprobs.row(row)))
        moved = (dist.log_prob(labels) - old) * on
        ratios.append(moved[on > 0].exp().detach())
        entropies.append(dist.entropy()[on > 0].detach())
        value = float(advantages[row])
        low, high = 1 - config.clip_low, 1 + config.clip_high
        if config.loss == "gspo":
            ratio = (moved.sum() / count).exp()
            gain = torch.min(ratio * value, ratio.clamp(low, high) * value) * count
        else:
            ratio = moved.exp()
            gain = (torch.min(ratio * value, ratio.clamp(low, high) * value) * on).sum()
        loss = loss - scale[row] * gain
        if config.beta:
            back = -moved
            loss = loss + config.beta * scale[row] * ((back.exp() - back - 1) * on).sum()
    return loss, torch.cat(ratios), torch.cat(entropies)


@pytest.mark.parametrize("shape", ["packed", "padded"])
@pytest.mark.parametrize(
    ("algorithm", "fields"),
    [
        ("gspo", {"clip_low": 3e-3, "clip_high": 3e-3}),
        ("grpo", {"beta": 0.1, "kl_estimator": "k3"}),
        ("grpo", {"reduction": "token_mean"}),
        ("grpo", {"reduction": "prompt_mean"}),
    ],
)
def test_loss_gradient_and_metrics_are_those_of_the_sampled_tokens_alone(
    model, shape, algorithm, fields
):
    config = configured(algorithm=algorithm, micro_batch_tokens=24, **fields)
    rollouts = masked_rollouts()
    step = step_of(rollouts, config)
    found, gradient = gradient_of(policy_of(model, shape=shape, temperature=0.7), step, config)
    model.zero_grad(set_to_none=True)
    loss, ratios, entropies = by_hand(model, rollouts, step.advantages, config)
    loss.backward()
    expected = torch.cat([p.grad.flatten() for p in model.parameters()])
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-12)
    assert float(found["loss"]) == pytest.approx(loss.item(), abs=1e-12)
    assert float(found["ratio/mean"]) == pytest.approx(ratios.mean().item(), rel=1e-9)
    assert float(found["ratio/max"]) == pytest.approx(ratios.max().item(), rel=1e-9)
    assert float(found["kl/old_k1"]) == pytest.approx(-ratios.log().mean().item(), rel=1e-9)
    assert float(found["entropy"]) == pytest.approx(entropies.mean().item(), rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["gspo", "grpo", "cispo", "gmpo", "dpo", "luspo"])
@settings(max_examples=4)
@given(tail=st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=3))
def test_tokens_that_are_read_after_the_last_sampled_one_change_no_bit(model, algorithm, tail):
    config = configured(algorithm=algorithm, micro_batch_tokens=1)
    policy = policy_of(model, shape="packed", temperature=0.7)
    first, other = (
        gradient_of(policy, step_of(masked_rollouts(tail=end), config), config)
        for end in ([0] * len(tail), tail)
    )
    assert first[1].abs().max() > 0
    assert torch.equal(first[1], other[1])
    assert {k: float(v) for k, v in first[0].items()} == pytest.approx(
        {k: float(v) for k, v in other[0].items()}, rel=0, abs=0, nan_ok=True
    )


def test_what_the_model_reads_between_changes_what_it_learns(model):
    config, policy = configured(algorithm="grpo"), policy_of(model, shape="padded", temperature=0.7)
    rollouts = masked_rollouts()
    tokens = rollouts.completion_tokens.values.copy()
    tokens[~rollouts.completion_mask.values] = 0
    other = replace(rollouts, completion_tokens=Ragged(tokens, rollouts.completion_tokens.lengths))
    found = [gradient_of(policy, step_of(one, config), config)[1] for one in (rollouts, other)]
    assert (found[0] - found[1]).abs().max() > 1e-3


def test_lengths_and_weights_count_sampled_tokens(model):
    rollouts, config = masked_rollouts(), configured(algorithm="gspo")
    counts = [int(rollouts.completion_mask.row(row).sum()) for row in range(6)]
    (cut,) = minibatches(RolloutBatch(rollouts, np.zeros(6, dtype=bool), {}), config)
    step = step_of(rollouts, config)
    assert cut.lengths.tolist() == step.lengths.tolist() == counts
    assert_array_equal(step.weights, sequence_weights(counts, "seq_mean"))
    assert_array_equal(
        recompute(policy_of(model, shape="padded", temperature=0.7), step, config).lengths, counts
    )


def test_a_completion_of_which_nothing_was_sampled_is_left_out():
    rollouts = masked_rollouts()
    mask = rollouts.completion_mask.values.copy()
    mask[: rollouts.completion_tokens.lengths[0]] = False
    rollouts = replace(rollouts, completion_mask=Ragged(mask, rollouts.completion_mask.lengths))
    nothing = np.zeros(6, dtype=bool)
    (cut,) = minibatches(RolloutBatch(rollouts, nothing, {}), configured())
    assert cut.dropped["dropped_empty"] == 1
    assert 0 not in cut.trained


def test_a_mask_survives_a_checkpoint_within_a_batch():
    config, rollouts = configured(), masked_rollouts()
    batch = RolloutBatch(rollouts, np.zeros(6, dtype=bool), {})
    cuts = minibatches(batch, config)
    halfway = Halfway(batch, cuts, plain_batches(cuts, config))
    found = restored(halfway.tensors(), config)
    assert_array_equal(
        found.rollout_batch.rollouts.completion_mask.values, rollouts.completion_mask.values
    )
    assert_array_equal(found.training_batches[0].lengths, halfway.training_batches[0].lengths)


def scored(**columns):
    """Scored completions with tokens, and masks of them."""
    return pl.DataFrame(
        {
            "prompt_id": [0, 0, 1, 1],
            "prompt": ["ab", "ab", "cd", "cd"],
            "completion": ["ab", "bc", "a", "e"],
            "reward": [0.0, 1.0, 1.0, 0.0],
            "tokens": [[2, 3, 4], [3, 4], [2], [6, 5, 0]],
            "mask": [[1, 0, 1], [1, 1], [1], [1, 0, 1]],
            **columns,
        }
    )


NAMES = {"completion_tokens": "tokens", "completion_mask": "mask"}


@pytest.mark.parametrize("kind", [pl.List(pl.Boolean), pl.List(pl.UInt8), pl.List(pl.Int64)])
def test_a_mask_is_read_from_bools_and_from_zeros_and_ones(kind):
    frame = scored().with_columns(pl.col("mask").cast(kind))
    (batch,) = data.rollouts(frame, by="prompt_id", **NAMES)
    assert batch.completion_mask.values.dtype == np.bool_
    assert batch.completion_mask.values.tolist() == [x > 0 for row in scored()["mask"] for x in row]
    assert batch.sampled_lengths.tolist() == [2, 2, 1, 2]


@pytest.mark.parametrize(
    ("mask", "problem"),
    [
        ([[1, 0, 1], [1], [1], [1, 0, 1]], "'mask' .* another length than .* tokens at row 1"),
        ([[1, 0, 1], [1, 2], [1], [1, 0, 1]], "'mask' .* holds 2 at row 1"),
        ([[1, 0, 1], [1, 1], [None], [1, 0, 1]], "'mask' .* holds None at row 2"),
        ([[1, 0, 1], None, [1], [1, 0, 1]], "'mask' .* is null, .* at row 1"),
    ],
)
def test_a_mask_that_does_not_fit_its_tokens_is_refused_with_the_row(mask, problem):
    with pytest.raises(ValueError, match=problem):
        next(data.rollouts(scored(mask=mask), by="prompt_id", **NAMES))


def test_a_mask_of_rollouts_is_of_bools_and_as_long_as_the_tokens():
    rollouts = masked_rollouts()
    mask = rollouts.completion_mask
    with pytest.raises(TypeError, match="completion_mask holds int64; give bools"):
        replace(rollouts, completion_mask=Ragged(mask.values.astype(np.int64), mask.lengths))
    short = Ragged(mask.values[1:], mask.lengths - (np.arange(6) == 0))
    count = mask.lengths[0]
    with pytest.raises(ValueError, match=f"row 0 has {count - 1} values for {count} tokens"):
        replace(rollouts, completion_mask=short)
    with pytest.raises(ValueError, match="belong to completion_tokens, which are missing"):
        replace(rollouts, completion_tokens=None, old_logprobs=None)


def test_a_column_of_masks_needs_the_tokens_that_it_marks():
    with pytest.raises(ConfigError, match="marks the tokens of completion_tokens_column"):
        resolve(Config(model="m", rollouts="r", completion_mask_column="mask"))


@pytest.fixture
def trained(letters, tmp_path):
    def trained(name, frame, **fields):
        train(
            model=str(letters),
            rollouts=frame,
            by="prompt_id",
            completion_tokens_column="tokens",
            output_dir=str(tmp_path / name),
            max_completion_length=8,
            prompts_per_step=2,
            max_steps=2,
            learning_rate=1e-2,
            quiet=True,
            **fields,
        )
        return weights(tmp_path / name / "final")

    return trained


def test_a_run_on_masked_tokens_reads_but_does_not_learn_the_others(trained, tmp_path):
    everything = scored(mask=[[True] * len(row) for row in scored()["tokens"]])
    assert trained("all", everything, completion_mask_column="mask") == trained("none", everything)
    masked = trained("masked", scored(), completion_mask_column="mask")
    assert masked != trained("unmasked", scored())
    (first, *_) = metrics.read(tmp_path / "masked" / "metrics.jsonl")
    assert (first["tokens"], first["length/max"]) == (7, 2)


def test_completions_with_tokens_may_be_whole_conversations(trained, tmp_path):
    said = [
        {"role": "assistant", "content": "a"},
        {"role": "tool", "content": "b"},
        {"role": "assistant", "content": "c"},
    ]
    plain = trained("plain", scored(), completion_mask_column="mask")
    chat = scored(completion=[said] * 4)
    assert trained("chat", chat, completion_mask_column="mask") == plain
    assert json.loads((tmp_path / "chat/metrics.jsonl").read_text().splitlines()[0])["tokens"] == 7
