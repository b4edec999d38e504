"""A rehearsal tells what a run will do and take, and leaves no trace."""

import dataclasses
import json
import re

import numpy as np
import polars as pl
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from fixtures.commands import MAIN
from fixtures.forked import finished
from fixtures.runs import REWARD, contents, make, share_of_a
from gspo_rs.data.prompt_table import Prompts
from gspo_rs.logprobs.model_head import OutputHead, head_inputs
from gspo_rs.samplers.generation import generating
from gspo_rs.train import metrics, plan, train
from gspo_rs.train.config.config import Config, ConfigError, resolve
from gspo_rs.train.config.toml import load
from gspo_rs.train.inputs import Inputs
from gspo_rs.train.memory import cache_bytes, expected_pass, largest_pass, measured
from gspo_rs.train.model import policy as policies
from gspo_rs.train.rollout import prepare
from gspo_rs.train.rollout.collect import sample
from gspo_rs.train.step import master_weights
from gspo_rs.train.step.optimizer import make_optimizer
from gspo_rs.train.step.training_batch import batches
from gspo_rs.train.step.update import backward

pytestmark = pytest.mark.usefixtures("one_thread")

OFFLINE = {"rollouts": "scored.parquet"}


@pytest.fixture
def stepped(letters):
    """A policy, the training batch of a step, and what the step leaves beside the weights."""

    def make(**fields):
        fields = {"max_completion_length": 8, "num_generations": 4, **fields}
        config = configuration(letters, **fields)
        policy = policies.load(config)
        prompts = Prompts(["ab", "bcdef", "cd"], {})
        batch = sample(policy, prompts, {"share_of_a": share_of_a}, config, seed=1)
        (cut,) = prepare.minibatches(batch, config)
        (training_batch,) = prepare.plain_batches([cut], config)
        return config, policy, training_batch

    return make


def configuration(model, **fields):
    return resolve(Config(model=str(model), prompts="p", reward="r:f", **fields))


@pytest.mark.parametrize("fields", [{}, {"lora_r": 2}])
def test_what_is_kept_is_what_a_step_really_makes(stepped, fields):
    config, policy, training_batch = stepped(**fields)
    found = measured(policy, config, reference=True, cache=0, largest=None)
    optimizer = make_optimizer(policy, config)
    backward(policy, training_batch, config)
    gradients = [p.grad for p in policy.model.parameters() if p.grad is not None]
    assert found.gradients == sum(g.numel() * g.element_size() for g in gradients)
    optimizer.step()
    state = [t for s in optimizer.state.values() for t in s.values() if t.numel() > 1]
    assert found.optimizer == sum(t.numel() * t.element_size() for t in state)
    held = {**dict(policy.model.named_parameters()), **dict(policy.model.named_buffers())}
    assert found.weights == sum(t.numel() * t.element_size() for t in held.values())
    assert found.reference == found.weights


def test_the_cache_is_as_large_as_the_one_that_generation_ends_with(stepped):
    _, policy, _ = stepped()
    ids = torch.ones((6, 3), dtype=torch.int64)
    with generating(policy.model) as base:
        said = base.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=5,
            min_new_tokens=5,
            do_sample=False,
            return_dict_in_generate=True,
        )
    layers = said.past_key_values.layers
    held = sum(t.numel() * t.element_size() for layer in layers for t in (layer.keys, layer.values))
    # The last token that is drawn is never read.
    assert cache_bytes(policy, 6, 3 + 5 - 1) == held > 0


def test_activations_are_what_the_allocator_still_holds_after_a_forward_pass(stepped):
    config, policy, training_batch = stepped()
    largest = largest_pass(batches(policy, training_batch, config))
    found = measured(policy, config, reference=False, cache=0, largest=largest)
    assert found.activations == pytest.approx(held_after_a_pass(policy, largest), rel=0.1)


def held_after_a_pass(policy, batch):
    """Bytes that the allocator of torch has given and not taken back, by its profiler."""
    with torch.profiler.profile(profile_memory=True) as profile:
        held = head_inputs(policy.model, OutputHead.of(policy.model), batch.input_ids, None, None)
    del held
    return sum(event.self_cpu_memory_usage for event in profile.key_averages())


def test_recomputed_activations_are_the_inputs_of_all_layers_and_the_inside_of_one(stepped):
    config, policy, training_batch = stepped()
    deep = policy.model.config
    deep.num_hidden_layers = 6
    held = {"model": LlamaForCausalLM(deep), "tokenizer": policy.tokenizer}
    largest = largest_pass(batches(policy, training_batch, config))
    found = []
    for on in (False, True):
        config = dataclasses.replace(config, gradient_checkpointing=on)
        policy = policies.load(config, inputs=Inputs(**held))
        found.append(measured(policy, config, reference=False, cache=0, largest=largest))
    every, some = (memory.activations for memory in found)
    inputs = held_after_a_pass(policy, largest)
    assert inputs < some < every / 2
    assert some - inputs < every / 6 * 1.5


def test_checkpointing_is_on_and_the_cache_counted_after_activations_are(letters):
    config = configuration(letters, gradient_checkpointing=True)
    policy = policies.load(config)
    largest = expected_pass(policy, config, 3)
    assert measured(policy, config, reference=False, cache=0, largest=largest).activations > 0
    # Without a cache of keys and values, which transformers leaves out then.
    assert cache_bytes(policy, 1, 4) > 0
    assert any(module.training for module in policy.model.modules())


@pytest.mark.parametrize("kind", [{}, OFFLINE])
def test_a_rehearsal_tells_the_first_batch_of_the_run_and_writes_nothing(letters, tmp_path, kind):
    config = load(make(tmp_path, letters, **kind, eval_size=0))
    before = contents(tmp_path)
    found = plan(config)
    assert {k: v for k, v in contents(tmp_path).items() if "__pycache__" not in k} == before
    assert not (tmp_path / "run").exists()
    train(config)
    records = metrics.read(tmp_path / "run/metrics.jsonl")
    assert found.steps == records[-1]["step"] == 9
    first = records[: config.steps_per_generation]
    assert found.lengths.mean() == pytest.approx(np.mean([r["length/mean"] for r in first]))
    assert found.rewards.max() == pytest.approx(max(r["reward/max"] for r in first))
    shares = np.mean([r["group/zero_variance_frac"] for r in first])
    assert found.informative / found.sampled == pytest.approx(1 - shares)
    assert found.sampled == config.prompts_per_step * config.steps_per_generation


def test_what_would_stop_the_run_stops_the_rehearsal(letters, tmp_path):
    path = make(tmp_path, letters, max_steps=2)
    train(load(path))
    with pytest.raises(ConfigError, match="holds a run already"):
        plan(load(path))
    longer = load(path, ["max_steps=5"])
    before = contents(tmp_path / "run")
    found = plan(longer, resume=True)
    assert (found.done, found.steps) == (2, 5)
    assert "3 of 5 steps" in str(found)
    with pytest.raises(ConfigError, match="seed = 4, but"):
        plan(load(path, ["seed=4"]), resume=True)
    assert contents(tmp_path / "run") == before


def test_a_model_in_memory_is_not_touched_by_a_rehearsal(letters, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(letters, dtype=torch.float32).train()
    tokenizer = AutoTokenizer.from_pretrained(letters)
    names = list(model.state_dict())
    prompts = pl.DataFrame({"prompt": ["ab", "bc"]})
    output = str(tmp_path / "run")
    given = {"prompts": prompts, "reward": share_of_a, "output_dir": output, "eval_size": 0}
    found = plan(model=model, tokenizer=tokenizer, lora_r=2, max_completion_length=4, **given)
    assert found.trained < found.parameters
    assert list(model.state_dict()) == names
    assert model.training
    assert not (tmp_path / "run").exists()


def test_what_is_left_out_is_said(letters, tmp_path):
    path = make(tmp_path, letters, max_completion_length=3, on_long="drop", **OFFLINE)
    text = str(plan(load(path)))
    assert "completions that are too long" in text
    assert "0 of 4 groups with signal" in text


@pytest.mark.slow
def test_the_command_says_all_of_it_and_the_command_to_go_on_with(letters, tmp_path):
    path = make(tmp_path, letters, reward=REWARD)
    files = sorted(p.name for p in tmp_path.iterdir())
    found = finished("train", path, "--dry-run", "--seed", "5", cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    for part in ("data ", "model ", "run ", "batch ", "memory ", "weights", "optimizer", "output "):
        assert f"\n{part}" in f"\n{found.stdout}" or f"  {part}" in found.stdout, part
    last = found.stdout.splitlines()[-1]
    assert last.startswith("next ")
    assert last.endswith(f"train {path} --seed 5")
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "__pycache__") == files


@pytest.mark.slow
def test_with_json_a_rehearsal_and_a_run_are_one_object_each(letters, tmp_path):
    path = make(tmp_path, letters, reward=REWARD)
    promised = finished("train", path, "--dry-run", "--json", cwd=tmp_path)
    assert promised.returncode == 0, promised.stderr
    found, expected = json.loads(promised.stdout), plan(load(path))
    assert found["verb"] == "train"
    assert found["dry_run"] is True
    assert found["memory"]["total"] == expected.memory.total
    assert found["reward"] == pytest.approx(np.nanmean(expected.rewards), rel=1e-12)
    assert (found["groups"], found["steps"]) == (expected.groups, expected.steps)
    assert found["next"].endswith(f"train {path} --json")
    done = finished("train", path, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    ran = json.loads(done.stdout)
    assert (ran["verb"], ran["dry_run"], ran["steps"]) == ("train", False, found["steps"])
    assert ran["output"] == found["output"]
    (*_, last) = metrics.read(ran["metrics_file"])
    assert ran["metrics"] == {name: last[name] for name in ran["metrics"]}
    AutoModelForCausalLM.from_pretrained(ran["final"])


@pytest.mark.parametrize("run", [plan, train])
def test_a_context_that_completions_fill_alone_is_named_before_anything_is_sampled(
    letters, tmp_path, run
):
    path = make(tmp_path, letters, max_completion_length=4096)
    with pytest.raises(ConfigError, match=r"max_completion_length = 4096: .*context of \d+ tokens"):
        run(load(path))


FED = """
import os, sys
os.dup2(os.open("prompts.jsonl", os.O_RDONLY), 0)
sys.stdin = open(0, closefd=False)
"""


@pytest.mark.slow
def test_prompts_come_from_standard_input(letters, tmp_path):
    path = make(tmp_path, letters)
    words = ["train", path, "--prompts", "-", "--dry-run"]
    found = finished(*words, code=FED + MAIN, cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    assert "5 prompts in -" in found.stdout


@pytest.mark.parametrize("fields", [{}, {"weights": "bfloat16"}, {"lora_r": 2}])
def test_the_optimizer_keeps_what_is_said_of_it(stepped, fields):
    config, policy, training_batch = stepped(**fields)
    found = measured(policy, config, reference=False, cache=0, largest=None)
    optimizer = make_optimizer(policy, config)
    backward(policy, training_batch, config)
    master_weights.step(optimizer)
    state = [t for s in optimizer.state.values() for t in s.values() if t.numel() > 1]
    assert found.optimizer == sum(t.numel() * t.element_size() for t in state)


def test_the_pass_that_is_expected_has_the_largest_of_full_completions(letters):
    config = configuration(letters, max_completion_length=20, micro_batch_tokens=100)
    policy = policies.load(config)
    found = expected_pass(policy, config, 6)
    # A token of a completion is not read but predicted: 25 of 26, four times within the budget.
    assert tuple(found.input_ids.shape) == (4, 25)
    assert len(found.targets) == 80
    beyond = expected_pass(policy, config, 10_000)
    assert tuple(beyond.input_ids.shape) == (1, policy.context - 1)


def test_a_run_begins_with_a_line_of_the_memory_it_takes(letters, tmp_path, capsys):
    train(load(make(tmp_path, letters, max_steps=1, eval_size=0)))
    lines = capsys.readouterr().out.splitlines()
    assert re.match(r"memory: about \S+ \w+ \(weights .*, gradients .*, optimizer .*\)", lines[0])
    assert sum(line.startswith("memory: ") for line in lines) == 1
    config = dataclasses.replace(load(tmp_path / "run.toml"), output_dir=str(tmp_path / "quiet"))
    train(config, quiet=True)
    assert capsys.readouterr().out == ""
