"""QRPO offline: targets of a step, what it teaches, and which settings it refuses."""

import numpy as np
import polars as pl
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

import gspo_rs as gs
from fixtures.runs import configured, share_of_a
from gspo_rs.rollouts import Ragged, Rollouts
from gspo_rs.samplers.transformers import generate
from gspo_rs.train import Config, metrics, train
from gspo_rs.train.config.config import ConfigError, resolve
from gspo_rs.train.halfway import Halfway, restored
from gspo_rs.train.rollout.collect import RolloutBatch
from gspo_rs.train.rollout.prepare import minibatches, plain_batches

pytestmark = pytest.mark.usefixtures("one_thread")

PROMPTS = ["ab", "cd", "ef"]


def sampled(folder, n, seed):
    """Completions of every prompt by a model in a folder, with their rewards."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    given = {"num_generations": n, "max_completion_length": 6, "seed": seed}
    found = generate(model, tokenizer, PROMPTS, **given)
    return found, np.array(share_of_a(found.completions))


@pytest.fixture(scope="module")
def scored(letters, tmp_path_factory):
    """Completions of the starting policy, with the rewards of 20 others for their prompt."""
    found, rewards = sampled(letters, 16, seed=0)
    _, others = sampled(letters, 20, seed=1)
    ids = np.repeat(np.arange(3), 16)
    path = tmp_path_factory.mktemp("scored") / "scored.parquet"
    pl.DataFrame(
        {
            "prompt_id": ids,
            "prompt": found.prompts,
            "completion": found.completions,
            "tokens": [found.completion_tokens.row(row).tolist() for row in range(48)],
            "reward": rewards,
            "others": [others.reshape(3, 20)[g].tolist() for g in ids],
        }
    ).write_parquet(path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("column", [None, "others"])
def test_a_short_run_raises_the_quantile_among_the_starting_policy(
    letters, scored, tmp_path, column
):
    config = Config(
        model=str(letters),
        rollouts=str(scored),
        output_dir=str(tmp_path),
        algorithm="qrpo",
        completion_tokens_column="tokens",
        reference_rewards_column=column,
        max_completion_length=8,
        prompts_per_step=3,
        steps_per_generation=1,
        num_train_epochs=40,
        learning_rate=3e-3,
        save_steps=0,
    )
    result = train(config)
    records = metrics.read(result.metrics_file)
    assert records[0]["score/mean"] == pytest.approx(0, abs=1e-6)  # the policy is the starting one
    assert records[-1]["score/error"] < 0.8 * records[0]["score/error"]
    assert records[0]["seqs"] == 48
    _, pool = sampled(letters, 64, seed=2)
    _, found = sampled(result.final, 64, seed=3)
    pool = np.repeat(pool.reshape(3, 64), 64, axis=0)
    quantiles, _ = gs.quantile_rewards(found, group_size=64, pool=pool)
    assert quantiles.mean() > 0.6


def rollouts(**more):
    """Two groups of four; one completion has no reward, the last of each group is too long."""
    return Rollouts(
        offsets=np.array([0, 4, 8]),
        prompts=["p"] * 8,
        completions=["c"] * 8,
        reward=np.array([1.0, 0.0, np.nan, 5.0, 0.5, 0.5, 0.25, 0.5]),
        prompt_tokens=Ragged.from_rows([[1]] * 8, np.int64),
        completion_tokens=Ragged.from_rows([[2, 3]] * 8, np.int64),
        **more,
    )


LONG = np.array([False, False, False, True] * 2)


@pytest.mark.parametrize("apart", [False, True])
def test_targets_are_among_the_references_of_a_row_or_what_can_be_trained_on_in_its_group(apart):
    config = configured(algorithm="qrpo", beta=0.2, prompts_per_step=1)
    lists = [[0.0, 1.0, 1.0], [np.nan, 0.0], [], [3.0], [0.5, 0.5], [0.0], [0.0, 0.25], []]
    more = {"reference_rewards": Ragged.from_rows(lists, np.float64)} if apart else {}
    batch = RolloutBatch(rollouts(**more), LONG, {})
    cuts = minibatches(batch, config)
    found = np.concatenate([part.targets.numpy() for part in plain_batches(cuts, config)])
    kept = [[1.0, 0.0], [0.5, 0.5, 0.25]]
    expected = []
    for g, rewards in enumerate(kept):
        for row, reward in enumerate(rewards):
            pool = lists[4 * g + row] if apart else rewards[:row] + rewards[row + 1 :]
            (q,), (z,) = gs.quantile_rewards([reward], ["a"], beta=0.2, pool=pool)
            expected.append(q - 0.2 * z)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_checkpoint_inside_of_a_batch_brings_the_same_targets_back():
    config = configured(algorithm="qrpo", prompts_per_step=1)
    lists = [[0.0, 1.0], [0.5], [], [], [0.1], [0.2, 0.7], [0.3, np.nan], []]
    batch = RolloutBatch(rollouts(reference_rewards=Ragged.from_rows(lists, np.float64)), LONG, {})
    cuts = minibatches(batch, config)
    before = Halfway(batch, cuts, plain_batches(cuts, config), done=1)
    after = restored(before.tensors(), config)
    for one, other in zip(before.training_batches, after.training_batches, strict=True):
        assert one.targets.tolist() == other.targets.tolist()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"beta": 0.0}, r"beta = 0\.0: the loss 'qrpo' needs it above 0"),
        ({"off_policy_mask_threshold": 0.5}, "'qrpo' has neither ratio nor advantage; leave it"),
        ({"rollouts": None, "prompts": "p", "reward": "r"}, "loss = 'qrpo': .* give `rollouts`"),
        ({"renormalise": True, "reference_rewards_column": "c"}, "leave one of them out"),
        ({"algorithm": "dpo", "reference_rewards_column": "c"}, "only the loss 'qrpo' reads it"),
    ],
)
def test_what_qrpo_cannot_use_is_refused_before_the_run(fields, message):
    given = {"model": "m", "rollouts": "r", "algorithm": "qrpo", **fields}
    with pytest.raises(ConfigError, match=message):
        resolve(Config(**given))


def test_the_preset_has_the_scale_and_the_mean_of_the_paper():
    config = resolve(Config(model="m", rollouts="r", algorithm="qrpo"))
    assert (config.loss, config.beta, config.reduction) == ("qrpo", 0.1, "seq_mean")
