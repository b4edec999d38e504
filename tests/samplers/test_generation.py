"""Sampling from architectures that keep more, or other, memory than keys and values."""

import json
import logging
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from fixtures.runs import share_of_a
from fixtures.tiny_models import KINDS, has, saved, tiny
from gspo_rs.samplers.generation import GenerationError
from gspo_rs.samplers.transformers import generate
from gspo_rs.train import metrics, train
from gspo_rs.train.config.config import Config
from gspo_rs.train.model.policy import PolicyError

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:.*has no cache"),
]

PROMPTS = ["abcdefgh", "ba", "c", "hg", "fedcbahgfedcb"]
EXACT = sorted(set(KINDS) - {"roberta"})
FEW = ["rwkv", "mamba2", "bamba", "recurrent_gemma", "bart", "granitemoehybrid", "openai-gpt"]


def off_by(model, rollouts):
    """The largest difference from one row alone, without padding or cache."""
    worst = 0.0
    for row in range(rollouts.n_rollouts):
        prompt, text = rollouts.prompt_tokens.row(row), rollouts.completion_tokens.row(row)
        ids = torch.tensor(np.concatenate([prompt, text]))[None]
        with torch.no_grad():
            logits = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1]
        now = logits.log_softmax(-1).gather(1, torch.tensor(text)[:, None])[:, 0].numpy()
        worst = max(worst, float(np.abs(now - rollouts.sampler_logprobs.row(row)).max()))
    return worst


def check(kind, letters, std):
    if not has(kind):
        pytest.skip(f"this transformers has no {kind}")
    model, tokenizer = tiny(kind, std=std), AutoTokenizer.from_pretrained(letters)
    options = {"max_completion_length": 10, "seed": 0}
    rollouts = generate(model, tokenizer, PROMPTS, num_generations=3, **options)
    assert list(rollouts.prompts) == [prompt for prompt in PROMPTS for _ in range(3)]
    for row in range(rollouts.n_rollouts):
        expected = tokenizer(rollouts.prompts[row])["input_ids"]
        assert rollouts.prompt_tokens.row(row).tolist() == expected
    assert off_by(model, rollouts) < 1e-4
    alone = generate(model, tokenizer, PROMPTS[1:2], num_generations=1, **options)
    assert off_by(model, alone) < 1e-4


@pytest.mark.parametrize("kind", FEW)
def test_a_group_is_sampled_as_its_members_would_be_alone(kind, letters):
    check(kind, letters, 0.2)


@pytest.mark.parametrize("kind", ["recurrent_gemma", "rwkv", "mamba2"])
def test_a_prompt_of_one_token_does_not_go_on_from_as_many_rows_before_it(kind, letters):
    model, tokenizer = tiny(kind, std=0.2), AutoTokenizer.from_pretrained(letters)
    options = {"num_generations": 3, "max_completion_length": 10, "seed": 0}
    generate(model, tokenizer, PROMPTS[:1], **options)
    assert off_by(model, generate(model, tokenizer, ["c"], **options)) < 1e-4


@pytest.mark.soak
@pytest.mark.parametrize("std", [0.02, 0.1, 0.2])
@pytest.mark.parametrize("kind", EXACT)
def test_every_architecture_at_hand_is_sampled_as_it_is_trained(kind, std, letters):
    check(kind, letters, std)


@pytest.fixture
def configured(letters, tmp_path):
    """Make the configuration of a short run of an architecture."""
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in PROMPTS))

    def make(kind, **fields):
        model = (
            str(letters) if kind == "llama" else str(saved(tiny(kind), letters, tmp_path / kind))
        )
        given = {"max_completion_length": 8, "prompts_per_step": 5, "steps_per_generation": 1}
        given |= {"max_steps": 2, "eval_size": 0, "save_steps": 0, "learning_rate": 1e-3}
        output = str(tmp_path / "run")
        return Config(model=str(model), prompts=str(prompts), output_dir=output, **(given | fields))

    return make


def test_a_model_that_transformers_cannot_sample_from_is_refused_by_name(
    configured, letters, tmp_path
):
    if not has("xlstm"):
        pytest.skip("this transformers has no xlstm")
    # Of this width its layers have other heads than its cache.
    model = saved(tiny("xlstm", std=0.2, hidden_size=16), letters, tmp_path / "xlstm")
    config = replace(configured("llama"), model=str(model))
    with pytest.raises(GenerationError, match="cannot sample from xLSTMForCausalLM: ValueError"):
        train(config, reward=share_of_a)
    assert not metrics.read(f"{config.output_dir}/metrics.jsonl")


# Roberta counts its positions from the tokens, and a token read from the cache has others.
DISAGREE = r"roberta'.*sampler and its training pass disagree, by [\d.e-]+ nats.*RobertaForCausalLM"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_sampler_that_disagrees_with_the_training_pass_stops_the_run(configured, dtype):
    config = configured("roberta", dtype=dtype)
    with pytest.raises(PolicyError, match=DISAGREE + r".*old_logprobs = 'recompute'"):
        train(config, reward=share_of_a)
    assert not metrics.read(f"{config.output_dir}/metrics.jsonl")


def test_a_model_that_is_made_to_read_its_cache_otherwise_stops_the_run_naming_both(
    configured, letters
):
    def turn(_module, _inputs, hidden):
        # A token that is read alone, with the cache, gets another state than within a sequence.
        return hidden.roll(1, dims=-1) if hidden.shape[1] == 1 else None

    model = AutoModelForCausalLM.from_pretrained(letters)
    model.model.layers[0].register_forward_hook(turn)
    given = {"model": model, "tokenizer": AutoTokenizer.from_pretrained(letters)}
    config = configured("llama")
    both = r"is (-[\d.e-]+) by the sampler and (-[\d.e-]+) by the training pass"
    with pytest.raises(PolicyError, match="disagree, by .*" + both) as stopped:
        train(config, reward=share_of_a, **given)
    sampled, trained = map(float, re.search(both, str(stopped.value)).groups())
    assert abs(sampled - trained) > 0.01
    assert not metrics.read(f"{config.output_dir}/metrics.jsonl")


def test_with_log_probabilities_of_the_training_pass_the_ratios_are_one(configured, caplog):
    config = configured("roberta", old_logprobs="recompute")
    with caplog.at_level(logging.WARNING):
        result = train(config, reward=share_of_a)
    assert "sampler and its training pass disagree" in caplog.text
    for record in metrics.read(result.metrics_file):
        assert record["ratio/min"] == record["ratio/max"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llama", "mixtral", "rwkv", "bamba"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_sampler_that_agrees_trains_without_a_word(configured, caplog, kind, dtype):
    with caplog.at_level(logging.WARNING):
        result = train(configured(kind, dtype=dtype), reward=share_of_a)
    assert "disagree" not in caplog.text
    assert result.steps == 2
