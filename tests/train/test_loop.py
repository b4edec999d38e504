"""Training runs, from prompts or from a file of scored completions, to a model on the disk."""

import json
import logging
import math
import re
from dataclasses import replace
from typing import get_args

import numpy as np
import polars as pl
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from fixtures.places import ROOT
from fixtures.runs import share_of_a
from gspo_rs.rewards.functions import RewardError
from gspo_rs.train import metrics, train
from gspo_rs.train.config.config import Config, ConfigError
from gspo_rs.train.config.presets import Algorithm
from gspo_rs.train.rollout.engine import Transformers
from gspo_rs.train.rollout.samplers import EngineSampler
from gspo_rs.train.rollout.tokenize import LengthError
from gspo_rs.train.step.update import TrainingDivergedError

pytestmark = pytest.mark.usefixtures("one_thread")

PAGE = ROOT / "docs" / "reference" / "metrics.md"
PROMPTS = ["ab", "bc", "cd", "de", "ef", "fg"]


@pytest.fixture
def online(letters, tmp_path):
    """Make the configuration of an online run that lasts a second."""
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in PROMPTS))

    def make(**fields):
        defaults = {
            "model": str(letters),
            "prompts": str(prompts),
            "output_dir": str(tmp_path / "run"),
            "max_completion_length": 8,
            "prompts_per_step": 3,
            "steps_per_generation": 2,
            "max_steps": 4,
            "learning_rate": 3e-2,
            "eval_size": 0,
            "save_steps": 0,
        }
        return Config(**{**defaults, **fields})

    return make


@pytest.fixture
def offline(letters, tmp_path):
    """Make the configuration of an offline run over twelve groups, one of them without signal."""
    draw = np.random.default_rng(0)
    rows = []
    for group in range(12):
        for _ in range(4):
            text = "".join(draw.choice(list("abcdefgh"), 6))
            reward = 0.5 if group == 5 else text.count("a") + text.count("b") + draw.random() / 9
            rows.append({"id": group, "prompt": "abc", "completion": text, "reward": reward})
    scored = tmp_path / "scored.parquet"
    pl.DataFrame(rows).write_parquet(scored)

    def make(**fields):
        defaults = {
            "model": str(letters),
            "rollouts": str(scored),
            "by": "id",
            "output_dir": str(tmp_path / "run"),
            "max_completion_length": 8,
            "prompts_per_step": 3,
            "steps_per_generation": 2,
            "learning_rate": 1e-3,
            "save_steps": 0,
        }
        return Config(**{**defaults, **fields})

    return make


def weights(folder):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def steps(config):
    return metrics.read(f"{config.output_dir}/metrics.jsonl")


def test_online_training_lifts_the_policy_in_its_groups_and_above_the_start(online):
    config = online(max_steps=30, num_generations=16, eval_size=6, eval_steps=15)
    result = train(config, reward=share_of_a)
    records = steps(config)
    first, last = records[0], records[-1]
    assert [record["step"] for record in records] == list(range(31))
    assert first["eval/percentile"] == 0.5
    assert last["eval/percentile"] > 0.8
    assert last["eval/reward"] > first["eval/reward"] + 0.2
    assert "eval/percentile" in records[15]
    assert all(math.isfinite(value) for record in records for value in record.values())
    assert result.steps == 30
    tokenizer = AutoTokenizer.from_pretrained(result.final)
    model = AutoModelForCausalLM.from_pretrained(result.final)
    written = model.generate(**tokenizer("cd", return_tensors="pt"), max_new_tokens=1)
    assert tokenizer.decode(written[0]).replace(" ", "") == "cda"


def test_the_ratio_is_one_on_the_first_step_of_a_batch_and_moves_on_the_second(online):
    config = online()
    train(config, reward=share_of_a)
    moved = [record["seq_ratio/min"] != 1.0 for record in steps(config)]
    assert moved == [False, True, False, True]


@pytest.mark.parametrize("source", ["recompute", "sampler"])
def test_old_logprobs_are_the_same_from_a_pass_and_from_the_sampler(online, tmp_path, source):
    results = {}
    for name in ("auto", source):
        config = online(old_logprobs=name, output_dir=str(tmp_path / name))
        results[name] = weights(train(config, reward=share_of_a).final)
    torch.testing.assert_close(results[source], results["auto"], rtol=0, atol=2e-3)


def test_packed_and_padded_micro_batches_train_the_same_model(online, tmp_path):
    trained = []
    for layout, tokens in (("packed", 30), ("padded", 4096)):
        fields = {"layout": layout, "micro_batch_tokens": tokens, "beta": 0.1, "max_steps": 2}
        config = online(output_dir=str(tmp_path / layout), learning_rate=1e-3, **fields)
        trained.append(weights(train(config, reward=share_of_a).final))
    torch.testing.assert_close(trained[0], trained[1], rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", sorted({*get_args(Algorithm)} - {"qrpo"}))  # offline alone
def test_every_preset_trains(online, letters, algorithm):
    config = online(algorithm=algorithm, max_steps=4, num_iterations=2)
    assert not torch.equal(weights(train(config, reward=share_of_a).final), weights(letters))
    assert all(math.isfinite(record["loss"]) for record in steps(config))


@pytest.mark.parametrize("correction", ["token_truncate", "seq_mask"])
def test_a_corrected_run_measures_the_mismatch_of_its_sampler(online, correction):
    loss = "grpo" if correction == "token_truncate" else "gspo"
    config = online(
        algorithm=loss, correction=correction, off_policy_mask_threshold=0.5, num_iterations=2
    )
    train(config, reward=share_of_a)
    for record in steps(config):
        assert 0 <= record["mismatch/max"] < 1e-3  # one engine, float32: the same to rounding
        assert record["mismatch/kept_frac"] == 1
        assert 0 <= record["mismatch/opsm_frac"] < 1


@pytest.mark.parametrize("fields", [{}, {"num_iterations": 2}, {"dtype": "bfloat16"}])
def test_every_batch_of_a_run_measures_the_mismatch_of_its_sampler(online, fields):
    config = online(max_steps=8, **fields)
    train(config, reward=share_of_a)
    inner = 2 * config.num_iterations
    for place, record in enumerate(steps(config)):
        assert ("mismatch/abs" in record) == (place % inner == 0)
        if place % inner == 0:
            rounding = 0.2 if config.dtype == "bfloat16" else 1e-4
            assert 0 < record["mismatch/abs"] <= record["mismatch/max"] < rounding


class Counts(Transformers):
    """Counts as a server's sampler does."""

    def take_metrics(self):
        return {"sampler/failed": [0.0], "sampler/retries": [0.0]}


def test_the_metrics_page_names_all_that_runs_write_and_nothing_else(online, offline, tmp_path):
    def right(completions, **_):
        return [float("a" in text) for text in completions]

    def shown(completions, **_):
        return [float(len(text) % 2) for text in completions]

    written = set()
    fields = {
        "output_dir": str(tmp_path / "1"),
        "max_steps": 2,
        "eval_size": 2,
        "off_policy_mask_threshold": 0.5,
        "dynamic_sampling": True,
        "overlong_penalty": "soft",
    }
    fields |= {"beta": 0.1, "correction": "seq_mask", "max_completion_length": 6}
    (tmp_path / "odd.py").write_text("def odd(completions, **_): return [len(completions[0]) % 2]")
    pool = {"reward": f"{tmp_path / 'odd.py'}:odd", "reward_workers": 1}
    pool |= {"reward_timeout": 600.0, "max_steps": 1, "eval_size": 2}
    counting = online(output_dir=str(tmp_path / "7"), max_steps=1, eval_size=2)
    for config, reward, sampler in (
        (online(**fields, reward_weights=(1.0, 0.0)), [right, shown], None),
        (online(algorithm="cispo", correction="token_truncate", max_steps=1), share_of_a, None),
        (online(output_dir=str(tmp_path / "5"), **pool), None, None),
        (online(output_dir=str(tmp_path / "6"), max_staleness=1, max_steps=1), share_of_a, None),
        (counting, share_of_a, EngineSampler(counting, Counts())),
        (offline(algorithm="listwise", output_dir=str(tmp_path / "3"), max_steps=1), None, None),
        (offline(algorithm="qrpo", output_dir=str(tmp_path / "4"), max_steps=1), None, None),
    ):
        train(config, reward=reward, sampler=sampler)
        written |= {name for record in steps(config) for name in record}
    table = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    named = {name for line in table for name in re.findall("`([^`]+)`", line.split(" | ")[0])}
    kept = {re.sub(r"^(passk|bestofn)/[0-9]+$", r"\1/<k>", name) for name in written}
    assert {re.sub("^reward/(right|shown)/", "reward/<name>/", name) for name in kept} == named


def test_groups_without_signal_are_dropped_and_counted(online):
    def only_ab(prompts, completions, **_):
        found = share_of_a(completions)
        return [r if p == "ab" else 0.25 for p, r in zip(prompts, found, strict=True)]

    config = online(prompts_per_step=6, steps_per_generation=1, max_steps=2)
    train(config, reward=only_ab)
    for record in steps(config):
        assert record["dropped_groups"] == 5
        assert record["seqs"] == 8
        assert record["group/zero_variance_frac"] == pytest.approx(5 / 6)


def test_a_step_without_any_signal_warns_and_leaves_the_weights(online, letters, caplog):
    config = online(max_steps=2)
    with caplog.at_level(logging.WARNING):
        result = train(config, reward=lambda completions, **_: [0.95] * len(completions))
    assert "step 1: no group has a signal" in caplog.text
    assert torch.equal(weights(result.final), weights(letters))
    for record in steps(config):
        assert record["seqs"] == 0
        assert all(math.isfinite(value) for value in record.values())


def test_a_completion_without_a_reward_is_left_out(online):
    def every_other(completions, **_):
        found = share_of_a(completions)
        return [None if place % 2 else r for place, r in enumerate(found)]

    config = online(max_steps=1, num_generations=16)
    train(config, reward=every_other)
    (record,) = steps(config)
    assert record["dropped_unscorable"] == 24
    assert record["seqs"] <= 24


def test_a_reward_function_that_fails_is_named(online):
    def broken(completions, **_):
        return [1.0]

    with pytest.raises(RewardError, match=r"broken answered 1 rewards for 48"):
        train(online(), reward=broken)


def test_a_prompt_that_is_too_long_is_an_error_or_a_counted_drop(online, tmp_path, caplog):
    prompts = tmp_path / "some.jsonl"
    prompts.write_text('{"prompt": "ab"}\n{"prompt": "abcdefgh"}\n')
    fields = {"prompts": str(prompts), "max_prompt_length": 4, "prompts_per_step": 2}
    with pytest.raises(ValueError, match="8 tokens, the limit is 4"):
        train(online(**fields), reward=share_of_a)
    train(online(**fields, on_long="drop", output_dir=str(tmp_path / "b")), reward=share_of_a)
    assert "dropped 1 of 2 prompts: prompt of row 1 has 8 tokens" in caplog.text


def test_lora_trains_an_adapter_and_saves_it_alone(online, letters):
    config = online(lora_r=2, beta=0.1, save_steps=2)
    result = train(config, reward=share_of_a)
    assert (result.final / "adapter_model.safetensors").is_file()
    assert not (result.final / "model.safetensors").exists()
    from peft import PeftModel

    base = AutoModelForCausalLM.from_pretrained(letters)
    adapted = PeftModel.from_pretrained(base, str(result.final))
    moved = [p for name, p in adapted.named_parameters() if "lora_B" in name]
    assert any(p.abs().max() > 0 for p in moved)
    # The reference is the starting policy: the adapter was off, and the KL starts at zero.
    assert steps(config)[0]["kl/ref_k3"] == pytest.approx(0, abs=1e-9)
    assert steps(config)[-1]["kl/ref_k3"] > 0


def test_offline_training_teaches_what_the_rewards_prefer(offline):
    config = offline(num_train_epochs=5)
    train(config)
    records = steps(config)
    assert len(records) == 5 * 4
    assert sum(record["dropped_groups"] for record in records) == 5
    # Under the starting policy every ratio is 1 and the loss 0; a lower one is what was learned.
    assert np.mean([record["loss"] for record in records[-4:]]) < -1e-4


def test_offline_old_logprobs_may_come_from_a_column(offline, tmp_path):
    frame = pl.read_parquet(offline().rollouts)
    # Six letters and the end token each.
    lists = [[-2.0] * 7] * frame.height
    frame.with_columns(old=pl.Series(lists)).write_parquet(tmp_path / "old.parquet")
    config = offline(rollouts=str(tmp_path / "old.parquet"), old_logprobs_column="old", max_steps=1)
    train(config)
    assert steps(config)[0]["seq_ratio/mean"] != 1.0
    short = frame.with_columns(old=pl.Series([[-2.0] * 4] * frame.height))
    short.write_parquet(tmp_path / "old.parquet")
    with pytest.raises(LengthError, match="4 old log-probabilities for 6 tokens"):
        train(replace(config, output_dir=str(tmp_path / "other")))


def test_a_long_completion_is_an_error_or_a_counted_drop(offline, tmp_path):
    fields = {"max_completion_length": 5, "max_steps": 1}
    with pytest.raises(LengthError, match="completion of 6 tokens, max_completion_length is 5"):
        train(offline(**fields))
    config = offline(**fields, on_long="drop", output_dir=str(tmp_path / "b"))
    train(config)
    assert steps(config)[0]["dropped_long"] == 12
    assert steps(config)[0]["seqs"] == 0


def test_three_steps_that_are_not_finite_stop_the_run(offline, caplog):
    config = offline(learning_rate=1e38, max_grad_norm=0.0, max_steps=9)
    with pytest.raises(TrainingDivergedError, match="lower learning_rate"):
        train(config)
    skipped = [record["skipped"] for record in steps(config)]
    assert skipped[-3:] == [1, 1, 1]
    assert len(skipped) < 9
    assert caplog.text.count("skipped") == 3


def test_a_run_does_not_write_over_another(online):
    config = online(max_steps=1)
    train(config, reward=share_of_a)
    with pytest.raises(ConfigError, match="holds a run already"):
        train(config, reward=share_of_a)


def test_a_run_that_failed_before_its_first_step_can_be_started_again(online):
    def broken(**_):
        raise KeyError("no such thing")

    with pytest.raises(RewardError, match="broken raised KeyError"):
        train(online(), reward=broken)
    assert train(online(), reward=share_of_a).steps == 4


def test_bfloat16_computes_in_half_and_keeps_weights_and_moments_in_full(online):
    config = online(dtype="bfloat16", max_steps=2, save_steps=1)
    result = train(config, reward=share_of_a)
    from safetensors.torch import load_file

    saved = load_file(result.final / "model.safetensors")
    assert {tensor.dtype for tensor in saved.values()} == {torch.float32}
    assert steps(config)[0]["grad_norm"] > 0
