"""Rollouts of several training sequences: a reward counts once, a loss is as the reduction says."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
import torch
from numpy.testing import assert_array_equal

from fixtures.runs import configured, share_of_a
from fixtures.tiny_models import policy_of, random_llama
from gspo_rs import data
from gspo_rs.rollouts import Ragged, Rollouts
from gspo_rs.train import Config, metrics, train
from gspo_rs.train.config.config import ConfigError, resolve
from gspo_rs.train.halfway import Halfway, restored
from gspo_rs.train.metrics import describe
from gspo_rs.train.rollout.collect import RolloutBatch
from gspo_rs.train.rollout.prepare import minibatches, plain_batches
from gspo_rs.train.step.update import backward

pytestmark = pytest.mark.usefixtures("one_thread")

VOCABULARY = 13
# Llama takes its norms in float32, where the last bit depends on how long a row is.
TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def policy():
    return policy_of(random_llama(VOCABULARY))


def whole(seed=0, sizes=(4, 3, 5)):
    """Rollouts of one sequence each, with log-probabilities of another policy."""
    draw = np.random.default_rng(seed)
    n = sum(sizes)
    lengths = draw.integers(4, 10, n)
    reward = draw.integers(0, 4, n) / 2
    reward[2] = np.nan
    return Rollouts(
        offsets=np.cumsum([0, *sizes]),
        prompts=["p"] * n,
        completions=["c"] * n,
        reward=reward,
        prompt_tokens=Ragged.from_rows(
            [draw.integers(0, VOCABULARY, draw.integers(1, 5)) for _ in range(n)], np.int64
        ),
        completion_tokens=Ragged(draw.integers(0, VOCABULARY, lengths.sum()), lengths),
        old_logprobs=Ragged(-draw.exponential(2.0, lengths.sum()), lengths),
    )


def split(rollouts, seed=0):
    """Cut each completion into one to four pieces; each is read after all that is before it."""
    draw = np.random.default_rng(seed)
    parts = {name: [] for name in ("prompt", "completion", "old", "owner")}
    sizes = np.zeros(rollouts.n_groups, dtype=np.int64)
    for row in range(rollouts.n_rollouts):
        tokens, old = rollouts.completion_tokens.row(row), rollouts.old_logprobs.row(row)
        inner = np.sort(draw.choice(np.arange(1, len(tokens)), draw.integers(0, 4), replace=False))
        edges = [0, *inner.tolist(), len(tokens)]
        for start, stop in pairwise(edges):
            before = np.concatenate([rollouts.prompt_tokens.row(row), tokens[:start]])
            parts["prompt"].append(before)
            parts["completion"].append(tokens[start:stop])
            parts["old"].append(old[start:stop])
            parts["owner"].append(row)
        group = np.searchsorted(rollouts.offsets, row, "right") - 1
        sizes[group] += len(edges) - 1
    owner = np.array(parts["owner"])
    return Rollouts(
        offsets=np.cumsum([0, *sizes]),
        prompts=["p"] * len(owner),
        completions=["c"] * len(owner),
        reward=rollouts.reward[owner],
        prompt_tokens=Ragged.from_rows(parts["prompt"], np.int64),
        completion_tokens=Ragged.from_rows(parts["completion"], np.int64),
        old_logprobs=Ragged.from_rows(parts["old"], np.float64),
        rollout_ids=owner % 5,  # an id counts in its group alone
    ), owner


def cut_of(rollouts, config):
    nothing = np.zeros(rollouts.n_rollouts, dtype=bool)
    (cut,) = minibatches(RolloutBatch(rollouts, nothing, {}), config)
    return cut


def learned(policy, rollouts, config):
    """The loss and gradient of one step."""
    cut = cut_of(rollouts, config)
    (step,) = plain_batches([cut], config)
    old = cut.sampled(rollouts.old_logprobs)
    step = replace(step, old_logprobs=old, ref_logprobs=old if config.beta else None)
    policy.model.zero_grad(set_to_none=True)
    found, _ = backward(policy, step, config)
    gradient = torch.cat([p.grad.flatten() for p in policy.trainable().values()])
    return float(found["loss"]), gradient, len(np.flatnonzero(cut.counted))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("advantage", ["percentile", "zscore", "batch_std", "gdpo"])
def test_splitting_changes_no_bit_of_an_advantage_and_no_number_about_rewards(advantage, seed):
    config = configured(algorithm="grpo", advantage=advantage)
    one, (many, owner) = whole(seed), split(whole(seed), seed)
    before, after = cut_of(one, config), cut_of(many, config)
    assert_array_equal(after.advantages, before.advantages[owner])
    assert_array_equal(after.informative, before.informative)
    expected, found = describe(before), describe(after)
    of_rewards = {k for k in expected if k.startswith(("reward/", "adv/", "group/", "passk/"))}
    assert {k: found[k] for k in of_rewards} == pytest.approx(
        {k: expected[k] for k in of_rewards}, rel=0, abs=0, nan_ok=True
    )
    assert found["tokens"] == expected["tokens"]


@pytest.mark.parametrize(
    ("reduction", "scale"),
    [
        ("token_mean", lambda _: 1.0),
        ("prompt_mean", lambda _: 1.0),
        ("seq_sum", lambda n: n[0] / n[1]),
        ("constant", lambda n: n[0] / n[1]),
    ],
)
def test_splitting_changes_a_loss_of_tokens_only_as_its_reduction_says(policy, reduction, scale):
    config = configured(algorithm="grpo", reduction=reduction, beta=0.1, kl_estimator="k3")
    one, (many, _) = whole(), split(whole())
    loss, gradient, n = learned(policy, one, config)
    found = learned(policy, many, config)
    factor = scale((n, found[2]))
    assert found[0] == pytest.approx(loss * factor, abs=TOLERANCE)
    assert gradient.abs().max() > 1e-3
    torch.testing.assert_close(found[1], gradient * factor, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("loss", ["dpo", "ipo", "pairwise", "plackett_luce", "top_fraction"])
def test_a_loss_of_groups_compares_rollouts_and_not_their_sequences(policy, loss):
    config = configured(algorithm="listwise", loss=loss)
    one, (many, _) = whole(), split(whole())
    expected, found = (learned(policy, rollouts, config) for rollouts in (one, many))
    assert found[0] == pytest.approx(expected[0], abs=TOLERANCE)
    torch.testing.assert_close(found[1], expected[1], rtol=0, atol=TOLERANCE)


def test_two_rewards_of_one_rollout_are_refused_with_their_rows():
    many, _ = split(whole(), 1)
    reward = many.reward.copy()
    twice = np.flatnonzero(np.diff(many.rollout_ids) == 0)[-1]
    reward[twice + 1] += 1
    place = f"row {twice} of the batch, group 2 and row {twice + 1} of the batch, group 2"
    with pytest.raises(ValueError, match=f"{place} are sequences of one rollout"):
        cut_of(replace(many, reward=reward), configured())


def test_a_rollout_counts_while_one_of_its_sequences_fits():
    many, owner = split(whole(), 3)
    config = configured(advantage="zscore")
    expected = cut_of(many, config).advantages
    too_long = np.zeros(many.n_rollouts, dtype=bool)
    first = int(np.flatnonzero(np.bincount(owner)[owner] > 1)[0])
    too_long[first] = True
    (cut,) = minibatches(RolloutBatch(many, too_long, {}), config)
    assert_array_equal(cut.advantages, np.where(too_long, 0, expected))


def test_ids_of_rollouts_survive_a_checkpoint_within_a_batch():
    many, _ = split(whole())
    config = configured()
    batch = RolloutBatch(many, np.zeros(many.n_rollouts, dtype=bool), {})
    cuts = minibatches(batch, config)
    found = restored(Halfway(batch, cuts, plain_batches(cuts, config)).tensors(), config)
    assert_array_equal(found.rollout_batch.rollouts.rollout_ids, many.rollout_ids)
    assert_array_equal(found.cuts[0].advantages, cuts[0].advantages)


def test_ids_of_rollouts_are_integers():
    with pytest.raises(TypeError, match="rollout_ids hold float64; give integers"):
        replace(whole(), rollout_ids=np.zeros(12))


def twice(sampler, prompts, **_):
    """Sample completions, and train on each and on its first token again."""
    found = sampler.generate(prompts)
    rows = np.repeat(np.arange(found.n_rollouts), 2)
    cut = np.tile([100, 1], found.n_rollouts)
    texts = [found.completions[row] for row in rows]

    def pieces(values, dtype):
        return Ragged.from_rows([values.row(r)[:k] for r, k in zip(rows, cut, strict=True)], dtype)

    return Rollouts(
        offsets=found.offsets * 2,
        prompts=[found.prompts[row] for row in rows],
        completions=texts,
        reward=np.array(share_of_a(texts)),
        prompt_tokens=found.prompt_tokens.rows(rows),
        completion_tokens=pieces(found.completion_tokens, np.int64),
        sampler_logprobs=pieces(found.sampler_logprobs, np.float32),
        rollout_ids=rows,
    )


def test_a_function_may_return_several_sequences_of_a_rollout(letters, tmp_path):
    train(
        model=str(letters),
        prompts=[{"prompt": text} for text in ("ab", "bc")],
        rollout=twice,
        output_dir=str(tmp_path / "run"),
        max_completion_length=5,
        num_generations=4,
        prompts_per_step=2,
        steps_per_generation=1,
        max_steps=2,
        eval_size=2,
        log_completions=True,
        quiet=True,
    )
    steps = metrics.read(tmp_path / "run" / "metrics.jsonl")
    assert steps[0]["eval/percentile"] == 0.5
    assert steps[1]["group/size_max"] == 4
    logged = pl.read_parquet(tmp_path / "run" / "completions")
    assert logged.group_by("prompt_id", "rollout").agg(pl.len())["len"].unique().to_list() == [2]


def as_rows(rollouts, owner, seed):
    """Rollouts as rows of a data set, in any order; also which rollout each is of."""
    sizes = np.diff(rollouts.offsets)
    ids = np.arange(len(owner)) if rollouts.rollout_ids is None else rollouts.rollout_ids
    columns = {
        "prompt_id": np.repeat(np.arange(len(sizes)), sizes),
        "episode": [f"e{one}" for one in ids],
        "prompt": rollouts.prompts,
        "completion": rollouts.completions,
        "reward": rollouts.reward,
    }
    lists = ("prompt_tokens", "completion_tokens", "old_logprobs")
    for name in lists:
        values = getattr(rollouts, name)
        columns[name] = [values.row(row).tolist() for row in range(len(owner))]
    order = np.random.default_rng(seed).permutation(len(owner))
    frame = pl.DataFrame(columns).with_columns(pl.col("reward").fill_nan(None))
    return frame[order], owner[order]


LISTS = {name: name for name in ("prompt_tokens", "completion_tokens", "old_logprobs")}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("advantage", ["percentile", "zscore", "batch_std", "gdpo"])
def test_splitting_the_rows_of_a_data_set_changes_no_bit_of_an_advantage(advantage, seed):
    config = configured(algorithm="grpo", advantage=advantage)
    expected = cut_of(whole(seed), config).advantages
    frame, owner = as_rows(*split(whole(seed), seed), seed)
    (read,) = data.rollouts(frame, by="prompt_id", rollout_ids="episode", **LISTS)
    assert_array_equal(cut_of(read, config).advantages, expected[owner[read.source_rows]])
    assert len(read.sequences.firsts) == len(expected)


def test_a_run_over_split_rows_counts_rollouts_and_goes_on(letters, tmp_path, training_batches):
    frame, _ = as_rows(*split(whole()), 1)
    # The tokens of the letters' model.
    asked = pl.col("prompt_tokens", "completion_tokens").list.eval(pl.element() % 7 + 4)
    frame = frame.with_columns(asked)
    frame.write_parquet(tmp_path / "rows.parquet")
    options = {f"{name}_column": name for name in LISTS} | {"rollout_ids_column": "episode"}
    options |= {"algorithm": "grpo", "model": str(letters), "quiet": True, "by": "prompt_id"}
    options |= {"prompts_per_step": 2, "learning_rate": 1e-3, "shuffle_dataset": False}

    def trained(name, rows, steps=4, **more):
        found = train(
            rollouts=rows, max_steps=steps, output_dir=str(tmp_path / name), **options, **more
        )
        return [
            {k: v for k, v in record.items() if not k.startswith(("time/", "speed/"))}
            for record in metrics.read(found.metrics_file)
        ]

    expected = trained("file", str(tmp_path / "rows.parquet"))
    assert max(record["group/size_max"] for record in expected) == 5
    assert all(batch.rollouts is not None for batch in training_batches)
    assert trained("frame", frame) == expected
    trained("stopped", frame, 3)
    assert trained("stopped", frame, resume=True) == expected


def test_rows_of_a_rollout_that_disagree_are_refused_with_both_before_a_model_is_loaded(tmp_path):
    frame = pl.DataFrame(
        {
            "prompt_id": ["a", "b", "a", "a"],
            "prompt": ["p"] * 4,
            "completion": ["c"] * 4,
            "reward": [1.0, 0.0, 0.0, 0.5],
            "episode": [7, 7, 8, 7],
        }
    )
    options = {
        "model": str(tmp_path / "none"),
        "rollouts": frame,
        "output_dir": str(tmp_path / "r"),
    }
    message = r"row 0 of .* and row 3 of .* are sequences of one rollout .* rewards 1\.0 and 0\.5"
    with pytest.raises(ValueError, match=message):
        train(**options, rollout_ids_column="episode")
    with pytest.raises(ValueError, match=message):
        data.index_groups(frame, by="prompt_id", rollout_ids="episode")
    hole = frame.with_columns(episode=pl.Series([7, 7, None, 8]))
    with pytest.raises(ValueError, match=r"the rollout 'episode' is null at row 2"):
        train(**options | {"rollouts": hole}, rollout_ids_column="episode")
    with pytest.raises(ValueError, match="'episodes'"):
        train(**options, rollout_ids_column="episodes")


def test_the_sequences_of_a_row_with_lists_are_lists_too():
    rows = [
        {
            "prompt": "p",
            "completion": ["a", "b", "c", "d"],
            "reward": [1.0, 1.0, 0.0, 0.5],
            "episode": [3, 3, 4, 5],
        }
    ]
    (read,) = data.rollouts(rows, rollout_ids="episode")
    assert read.sequences.codes.tolist() == [0, 0, 1, 2]
    rows[0]["reward"][1] = 0.25
    with pytest.raises(ValueError, match=r"row 0, member 0 .* and row 0, member 1"):
        data.rollouts(rows, rollout_ids="episode")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompts": "p", "reward": "r.py:f"}, "rollout_ids_column is a column of `rollouts`"),
        (
            {"rollouts": "r", "algorithm": "qrpo"},
            "rollout_ids_column = 'e': the target of the loss",
        ),
    ],
)
def test_ids_of_rollouts_are_refused_where_they_have_no_meaning(fields, message):
    with pytest.raises(ConfigError, match=message):
        resolve(Config(model="m", rollout_ids_column="e", **fields))
