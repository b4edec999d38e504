"""Texts on their way through a run: what is read offline, what rewards and comparisons see."""

import dataclasses
import logging

import polars as pl
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from fixtures.alphabets import CHATML
from fixtures.alphabets import letters as lettered
from fixtures.runs import share_of_a
from gspo_rs.data.group_index import index_groups
from gspo_rs.data.prompt_table import Prompts
from gspo_rs.train.config.config import Config, ConfigError, resolve
from gspo_rs.train.evaluate import rewards_of
from gspo_rs.train.model import policy as policies
from gspo_rs.train.rollout.collect import offline, online, sample

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def chat(tmp_path_factory):
    """A folder with a model of random weights that may stop at either of two tokens."""
    folder = tmp_path_factory.mktemp("chat")
    tokenizer = lettered("<s> $A", chat_template=CHATML)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 1, "num_key_value_heads": 1}
    tokens = dict(zip(("bos_token_id", "pad_token_id"), (1, 3), strict=True))
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes, **heads, **tokens))
    model.generation_config.eos_token_id = tokenizer.convert_tokens_to_ids(["</s>", "<|im_end|>"])
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def scored(tmp_path):
    """Two groups, a prompt that is rendered and one that is plain, and why completions ended."""
    rendered = "<s><|im_start|>user\nab<|im_end|>\n<|im_start|>assistant\n"
    frame = pl.DataFrame(
        {
            "prompt_id": [0, 0, 1, 1],
            "prompt": [rendered, rendered, "ab", "ab"],
            "completion": ["a", "b", "c", "d<|im_end|>"],
            "reward": [0.0, 1.0, 0.0, 1.0],
            "finish_reason": ["stop", "length", "length", "stop"],
        }
    )
    frame.write_parquet(tmp_path / "scored.parquet")
    return str(tmp_path / "scored.parquet")


def read(folder, scored, **fields):
    config = resolve(Config(model=str(folder), rollouts=scored, shuffle_dataset=False, **fields))
    policy = policies.load(config)
    (batch,) = [next(offline(policy, config, index_groups(scored, by="prompt_id"), start=0))]
    rows = batch.rollouts.prompt_tokens, batch.rollouts.completion_tokens
    convert = policy.tokenizer.convert_ids_to_tokens
    return [[convert(some.row(row).tolist()) for row in range(4)] for some in rows]


def test_offline_texts_are_framed_and_end_as_their_column_and_template_say(chat, scored):
    prompts, completions = read(chat, scored, truncated_column="finish_reason")
    assert completions == [["a", "<|im_end|>"], ["b"], ["c"], ["d", "<|im_end|>"]]
    assert prompts[0][:2] == ["<s>", "<|im_start|>"]
    assert prompts[0].count("<s>") == 1
    assert prompts[2] == ["<s>", "a", "b"]


def test_what_nothing_tells_of_the_ends_is_told(chat, scored, caplog):
    with caplog.at_level(logging.INFO, "gspo_rs"):
        _, completions = read(chat, scored)
    assert completions == [[text, "<|im_end|>"] for text in "abcd"]
    assert "no column marks truncated completions" in caplog.text
    assert "truncated_column" in caplog.text
    assert "not cut off ends with '<|im_end|>'" in caplog.text
    caplog.clear()
    read(chat, scored, truncated_column="finish_reason")
    assert "no column marks" not in caplog.text


def test_a_column_of_ends_belongs_to_offline_runs():
    with pytest.raises(ConfigError, match="truncated_column is a column of `rollouts`"):
        resolve(Config(model="m", prompts="p", reward="r", truncated_column="t"))


@pytest.mark.parametrize("through", ["sample", "evaluate"])
def test_rewards_see_all_that_was_written_and_no_end(chat, through):
    config = resolve(
        Config(model=str(chat), prompts="p", max_completion_length=24, num_generations=16)
    )
    policy = dataclasses.replace(policies.load(config))
    seen = []

    def reward(prompts, completions, **_):
        seen.extend(zip(prompts, completions, strict=True))
        return [0.0] * len(completions)

    prompts = Prompts(["ab", "<s><|im_start|>user\na"], {})
    if through == "evaluate":
        rewards_of(policy, prompts, {"reward": reward}, config, draw=0)
        assert any("<think>" in text for _, text in seen)
    else:
        found = sample(policy, prompts, {"reward": reward}, config, seed=0).rollouts
        assert not found.truncated.all()
        for row, (prompt, text) in enumerate(seen):
            tokens = found.completion_tokens.row(row).tolist()
            written = policy.tokenizer.decode([t for t in tokens if t not in (1, 2, 3, 6)])
            assert (prompt, text) == (found.prompts[row], written)
            assert found.prompt_tokens.row(row).tolist().count(1) == 1
    assert len(seen) == 32
    assert not any("</s>" in text or "<|im_end|>" in text for _, text in seen)


def test_completions_follow_from_epoch_and_row_whatever_the_order_and_the_size_of_batches(letters):
    texts = ["ab", "c", "dab", "cd", "ba"]

    def two_epochs(**fields):
        config = resolve(
            Config(
                model=str(letters),
                prompts="p",
                max_completion_length=8,
                num_generations=3,
                steps_per_generation=1,
                **fields,
            )
        )
        policy = policies.load(config)
        policy.model.double()
        prompts = Prompts(texts, {})
        batches = online(policy, prompts, {"reward": share_of_a}, config, start=0)
        seen = []
        while len(seen) < 30:
            rollouts = next(batches).rollouts
            seen += zip(rollouts.prompts, rollouts.completions, strict=True)
        return [sorted(seen[:15]), sorted(seen[15:30])]

    expected = two_epochs(prompts_per_step=5)
    assert expected[0] != expected[1]
    assert two_epochs(prompts_per_step=2, shuffle_dataset=False) == expected
    assert two_epochs(prompts_per_step=5, generation_batch=2, seed=0) == expected
    assert two_epochs(prompts_per_step=5, seed=1) != expected
