"""Training with several rewards: what is compared, what is measured, and what is refused."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import gspo_rs as gs
from fixtures.runs import weights
from gspo_rs.rewards.functions import RewardError
from gspo_rs.train import metrics, train
from gspo_rs.train.config.config import Config, ConfigError

pytestmark = pytest.mark.usefixtures("one_thread")

WEIGHTS = (1.0, -0.25)
COLUMNS = ("many_a", "length")


def many_a(completions, **_):
    return [text.count("a") / 4 for text in completions]


def length(completions, **_):
    return [None if text.startswith("b") else len(text) for text in completions]


def scored(path):
    """Write twelve scattered groups; 5 is tied in the plain sum, 6 in each of its columns."""
    draw = np.random.default_rng(0)
    texts = ["".join(draw.choice(list("abcdefgh"), draw.integers(2, 8))) for _ in range(48)]
    group = np.arange(48) % 12
    many, long = (np.array(f(texts), dtype=float) for f in (many_a, length))
    many[group == 6] = 0.5
    long = np.where(group == 5, 3.0 - many, np.where(group == 6, 0.5, long))
    columns = {"prompt_id": group, "prompt": "abc", "completion": texts}
    pl.DataFrame({**columns, "many_a": many, "length": long}).write_parquet(path)


@pytest.fixture
def make(letters, tmp_path):
    """Make the configuration of a short run, online or over a file of scored completions."""
    prompts = [{"prompt": text} for text in ("ab", "bc", "cd", "de", "ef", "fg")]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, prompts)))
    scored(tmp_path / "scored.parquet")

    def config(source="online", **fields):
        defaults = {
            "model": str(letters),
            "output_dir": str(tmp_path / "run"),
            "max_completion_length": 8,
            "prompts_per_step": 3,
            "steps_per_generation": 2,
            "learning_rate": 1e-2,
            "max_steps": 4,
            "eval_size": 0,
            "save_steps": 0,
        }
        if source == "online":
            defaults["prompts"] = str(tmp_path / "prompts.jsonl")
        else:
            files = {"rollouts": str(tmp_path / "scored.parquet"), "reward_column": COLUMNS}
            defaults |= {**files, "shuffle_dataset": False}
        return Config(**{**defaults, **fields})

    return config


def kept(function, answers):
    """The same function, whose answers are kept."""

    def asked(**told):
        answers.append(function(**told))
        return answers[-1]

    asked.__name__ = function.__name__
    return asked


def numbers(rewards):
    return np.array(rewards, dtype=float)  # None becomes NaN


def differ(matrix, ids):
    """Rows of groups in which some column has two different rewards."""
    found = np.zeros(len(ids), dtype=bool)
    for column in matrix.T:
        found |= np.array([len({*column[(ids == i) & ~np.isnan(column)]}) > 1 for i in ids])
    return found


def steps(config):
    records = metrics.read(f"{config.output_dir}/metrics.jsonl")
    return [{k: v for k, v in r.items() if not k.startswith(("time/", "speed/"))} for r in records]


@pytest.mark.parametrize("algorithm", ["gdpo", "grpo"])
def test_online_the_advantages_are_those_of_the_matrix_of_rewards(
    make, training_batches, algorithm
):
    answers = [], []
    config = make(algorithm=algorithm, reward_weights=WEIGHTS)
    train(config, reward=[kept(f, a) for f, a in zip((many_a, length), answers, strict=True)])
    assert len(training_batches) == 4
    batches = [numbers(batch).T for batch in zip(*answers, strict=True)]
    ids = np.arange(48) // 8
    for number, training_batch in enumerate(training_batches):
        matrix, half = batches[number // 2], ids // 3 == number % 2
        estimator = "gdpo" if algorithm == "gdpo" else "zscore"
        expected = gs.advantage(matrix, ids, estimator, weights=WEIGHTS)
        taught = expected[half & differ(matrix, ids)]
        assert_array_equal(training_batch.advantages.numpy(), taught)
        assert np.abs(taught).max() > 0.5


@pytest.mark.parametrize("algorithm", ["gdpo", "grpo"])
@pytest.mark.parametrize("shares", [WEIGHTS, None])
def test_offline_the_advantages_are_those_of_the_columns_of_what_is_not_dropped(
    make, training_batches, algorithm, shares
):
    config = make("offline", algorithm=algorithm, reward_weights=shares, max_completion_length=6)
    config = replace(config, on_long="drop")
    train(config)
    frame = pl.read_parquet(config.rollouts)
    long = frame["completion"].str.len_chars().to_numpy() > 6
    assert 0 < long.sum() < 24
    matrix = np.where(long[:, None], np.nan, frame.select(COLUMNS).to_numpy())
    ids = frame["prompt_id"].to_numpy()
    assert len(training_batches) == 4
    for number, training_batch in enumerate(training_batches):
        rows = np.flatnonzero(ids // 6 == number // 2)
        rows = rows[np.argsort(ids[rows], kind="stable")]  # group after group
        some, of = matrix[rows], ids[rows]
        plain = np.ones(2) if shares is None else np.array(shares)
        estimator = "gdpo" if algorithm == "gdpo" else "zscore"
        expected = gs.advantage(some, of, estimator, weights=plain)
        total = np.where(np.isnan(some).all(axis=1), np.nan, np.nansum(some * plain, axis=1))
        signal = differ(some if algorithm == "gdpo" else total[:, None], of)
        taught = signal & ~np.isnan(total) & (of // 3 == number)
        assert_array_equal(training_batch.advantages.numpy(), expected[taught])


def test_a_group_tied_in_the_sum_alone_teaches_gdpo_and_not_grpo(make):
    dropped = {}
    for algorithm in ("gdpo", "grpo"):
        config = make("offline", algorithm=algorithm, output_dir=f"{make().output_dir}/{algorithm}")
        train(config)
        dropped[algorithm] = [record["dropped_groups"] for record in steps(config)]
    # Group 5 is of the second step, group 6, whose columns are tied, of the third.
    assert dropped == {"gdpo": [0, 0, 1, 0], "grpo": [0, 1, 1, 0]}


@pytest.mark.slow
@pytest.mark.parametrize("source", ["online", "offline"])
@pytest.mark.parametrize("algorithm", ["gspo", "gdpo"])
def test_one_reward_in_a_list_is_that_reward_alone_to_the_bit(make, source, algorithm):
    found = []
    for name, several in (("alone", False), ("listed", True)):
        fields = {"algorithm": algorithm, "output_dir": f"{make().output_dir}/{name}"}
        fields |= {"eval_size": 2, "eval_steps": 2, "beta": 0.1}
        if source == "offline":
            fields["reward_column"] = ("many_a",) if several else "many_a"
        config = make(source, **fields)
        online = source == "online"
        train(config, reward=([many_a] if several else many_a) if online else None)
        found.append((weights(f"{config.output_dir}/final"), steps(config)))
    assert found[0] == found[1]
    assert not any(key.startswith("reward/many_a") for key in found[0][1][-1])


def test_of_one_reward_gdpo_is_that_of_a_matrix_of_one_column(make, training_batches):
    answers = []
    train(make(algorithm="gdpo", max_steps=2), reward=kept(many_a, answers))
    (batch,) = answers
    matrix, ids = numbers(batch)[:, None], np.arange(48) // 8
    expected = gs.advantage(matrix, ids, "gdpo")
    for number, training_batch in enumerate(training_batches):
        taught = differ(matrix, ids) & (ids // 3 == number)
        assert_array_equal(training_batch.advantages.numpy(), expected[taught])


def test_each_reward_is_measured_under_its_name_beside_the_weighted_sum(make):
    answers = [], []
    functions = [kept(f, a) for f, a in zip((many_a, length), answers, strict=True)]
    config = make(
        algorithm="gdpo", reward_weights=WEIGHTS, max_steps=2, eval_size=2, steps_per_generation=1
    )
    train(config, reward=functions)
    start, first, second = steps(config)
    many, long = ([numbers(batch) for batch in found] for found in answers)

    def total(batch):
        return many[batch] + WEIGHTS[1] * np.nan_to_num(long[batch])

    assert start["eval/start_reward"] == pytest.approx(total(0).mean())
    for record, batch in ((first, 1), (second, 2)):
        assert record["reward/many_a/mean"] == pytest.approx(many[batch].mean())
        assert record["reward/length/mean"] == pytest.approx(np.nanmean(long[batch]))
        assert record["reward/mean"] == pytest.approx(total(batch).mean())
        assert record["dropped_unscorable"] == 0
    assert second["eval/reward"] == pytest.approx(total(3).mean())


def test_a_reward_without_a_weight_is_measured_and_teaches_nothing(make):
    found = []
    for name, functions, shares in (
        ("one", [many_a], None),
        ("watched", [many_a, length], (1.0, 0.0)),
    ):
        config = make(algorithm="gdpo", output_dir=f"{make().output_dir}/{name}")
        config = replace(config, reward_weights=shares)
        train(config, reward=functions)
        found.append(weights(f"{config.output_dir}/final"))
        assert ("reward/length/mean" in steps(config)[0]) == (name == "watched")
    assert found[0] == found[1]


@pytest.mark.slow
@pytest.mark.parametrize("source", ["online", "offline"])
def test_a_stopped_run_of_several_rewards_goes_on_to_the_same_bits(make, source):
    functions = [many_a, length] if source == "online" else None
    fields = {"algorithm": "gdpo", "reward_weights": WEIGHTS, "save_steps": 2}
    whole = make(source, eval_size=2, eval_steps=2, **fields)
    train(whole, reward=functions)
    stopped = replace(whole, output_dir=f"{whole.output_dir}/stopped", max_steps=2)
    train(stopped, reward=functions)
    again = replace(stopped, max_steps=4, reward_weights=list(WEIGHTS))
    train(again, reward=functions, resume=True)
    assert weights(f"{again.output_dir}/final") == weights(f"{whole.output_dir}/final")
    assert steps(again) == steps(whole)
    with pytest.raises(ConfigError, match=r"reward_weights = \(2.0, 1.0\), but .* trained with"):
        train(replace(again, reward_weights=(2.0, 1.0)), reward=functions, resume=True)


def test_functions_are_named_in_a_file_as_in_trl(make, tmp_path):
    (tmp_path / "r.py").write_text(
        "def right(completions, **_): return [t.count('a') for t in completions]\n"
        "short = lambda completions, **_: [-len(t) for t in completions]\n"
    )
    config = make(reward=(f"{tmp_path}/r.py:right", f"{tmp_path}/r.py:short"), max_steps=1)
    train(config)
    (record,) = steps(config)
    apart = record["reward/right/mean"], record["reward/short/mean"]
    assert_allclose(record["reward/mean"], sum(apart))


def three(completions, **_):
    return [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("rewards", "fields", "error", "message"),
    [
        (
            [many_a, length],
            {"reward_weights": (1.0, 1.0, 1.0)},
            ConfigError,
            r"reward_weights = \(1.0, 1.0, 1.0\): give 2, one for each of many_a, length",
        ),
        ([many_a, many_a], {}, ConfigError, "reward has two named many_a; .* rename one"),
        ([], {}, ConfigError, "reward is empty; name at least one reward"),
        ([many_a, three], {}, RewardError, "reward function three answered 3 rewards for 48"),
    ],
)
def test_functions_that_cannot_be_used_together_are_told(make, rewards, fields, error, message):
    with pytest.raises(error, match=message):
        train(make(**fields), reward=rewards)


def test_a_column_that_is_missing_is_told_before_the_model_is_loaded(make):
    with pytest.raises(ValueError, match="no column 'lenght'; did you mean 'length'"):
        train(make("offline", model="none", reward_column=("many_a", "lenght")))
