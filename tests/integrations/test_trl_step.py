"""One step of the presets is the step of TRL, on what TRL sampled for the same conversations."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

pytest.importorskip("trl", reason="TRL is not installed")
datasets = pytest.importorskip("datasets", reason="datasets is not installed")

from trl import GRPOConfig, GRPOTrainer  # noqa: E402
from trl.rewards import get_soft_overlong_punishment  # noqa: E402

from fixtures.alphabets import CHATML, letters  # noqa: E402
from gspo_rs.rollouts import Ragged, Rollouts  # noqa: E402
from gspo_rs.samplers.special_tokens import before, framed, text_rows  # noqa: E402
from gspo_rs.train.config.config import Config, resolve  # noqa: E402
from gspo_rs.train.model import policy as policies  # noqa: E402
from gspo_rs.train.rollout.chat import rendered  # noqa: E402
from gspo_rs.train.rollout.collect import RolloutBatch  # noqa: E402
from gspo_rs.train.rollout.dynamic import filled  # noqa: E402
from gspo_rs.train.rollout.prepare import minibatches, plain_batches  # noqa: E402
from gspo_rs.train.step.update import backward  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE, LIMIT, CACHE = 4, 10, 3
PROMPTS = [[{"role": "user", "content": a + b}] for a, b in itertools.product("abcd", "ef")]
TOLD = {
    "gspo": {
        "loss_type": "grpo",
        "importance_sampling_level": "sequence",
        "epsilon": 3e-4,
        "epsilon_high": 4e-4,
    },
    "sapo": {"loss_type": "sapo"},
    "dapo": {"loss_type": "dapo", "epsilon": 0.2, "epsilon_high": 0.28},
}
FILTERED = {"mask_truncated": True, "renormalise": True}


@pytest.fixture(scope="module")
def chat(tmp_path_factory):
    """A folder with a model of random weights and a tokenizer with the template of ChatML."""
    folder = tmp_path_factory.mktemp("chat")
    tokenizer = letters("<s> $A", chat_template=CHATML)
    tokenizer.eos_token = "<|im_end|>"
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 1, "num_key_value_heads": 1, "initializer_range": 0.3}
    ends = {"bos_token_id": 1, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": 3}
    config = LlamaConfig(vocab_size=len(tokenizer), **sizes, **heads, **ends)
    model = LlamaForCausalLM(config)
    with torch.no_grad():  # of likely ends, so that some completions are cut off and some are not
        model.lm_head.weight[tokenizer.eos_token_id] += 0.1
    model.save_pretrained(folder)
    return folder


class Rewards:
    """How many different letters were written: in some groups all alike."""

    __name__ = "different"

    def __init__(self):
        self.rewards, self.tokens = [], []

    def __call__(self, completion_ids, **_):
        self.tokens = [list(ids) for ids in completion_ids]
        self.rewards = [0.7 * (len(set(ids)) > 5) for ids in completion_ids]
        return self.rewards


def trained_by_trl(chat, folder, algorithm, rewards, **told):
    more = []
    if algorithm == "dapo":
        more = [get_soft_overlong_punishment(max_completion_len=LIMIT, soft_punish_cache=CACHE)]
    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(chat, dtype=torch.float32),
        processing_class=AutoTokenizer.from_pretrained(chat),
        reward_funcs=[rewards, *more],
        train_dataset=datasets.Dataset.from_list([{"prompt": prompt} for prompt in PROMPTS]),
        args=GRPOConfig(
            output_dir=str(folder),
            use_cpu=True,
            bf16=False,
            report_to="none",
            seed=3,
            per_device_train_batch_size=len(PROMPTS) * SIZE,
            num_generations=SIZE,
            max_completion_length=LIMIT,
            num_iterations=2,  # so that it takes down the old log-probabilities
            gradient_checkpointing=False,
            **TOLD[algorithm],
            **told,
        ),
    )
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()
    return trainer


def sampled(trainer, rewards):
    """What TRL samples and scores, and the same as our batch of rollouts."""
    inputs = [{"prompt": prompt} for prompt in PROMPTS for _ in range(SIZE)]
    torch.manual_seed(5)
    output = trainer._generate_and_score_completions(inputs)
    n = len(inputs)
    lengths = [len(row) for row in rewards.tokens]
    end = trainer.processing_class.eos_token_id
    masks = zip(output["prompt_ids"], output["prompt_mask"], strict=True)
    old = zip(output["old_per_token_logps"], lengths, strict=True)
    rollouts = Rollouts(
        offsets=np.arange(len(PROMPTS) + 1) * SIZE,
        prompts=[row["prompt"] for row in inputs],
        completions=[""] * n,
        reward=np.array(rewards.rewards),
        prompt_tokens=Ragged.from_rows([ids[mask.bool()] for ids, mask in masks], np.int64),
        completion_tokens=Ragged.from_rows(rewards.tokens, np.int64),
        old_logprobs=Ragged.from_rows([row[:length] for row, length in old], np.float32),
        truncated=np.array([row[-1] != end for row in rewards.tokens]),
    )
    return output, RolloutBatch(rollouts, np.zeros(n, dtype=bool), {})


def differing(rewards):
    return np.array([len(set(group)) > 1 for group in np.reshape(rewards, (-1, SIZE))])


def of_groups(output, groups):
    """What TRL has of some of the groups alone, as if they were all that was sampled."""
    rows = torch.from_numpy(np.repeat(groups, SIZE))
    some = {
        name: value[rows] if value.dim() and len(value) == len(rows) else value
        for name, value in output.items()
    }
    return {**some, "num_items_in_batch": some["completion_mask"].sum()}


def moved(model, seed=1):
    """Move the weights, as steps on other minibatches would, so that ratios are not 1."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=draw)


def configured(chat, algorithm, **fields):
    return resolve(
        Config(
            model=str(chat),
            prompts="p",
            reward="r",
            algorithm=algorithm,
            advantage_options={"eps": 1e-4},  # TRL's
            max_completion_length=LIMIT,
            overlong_cache=CACHE if algorithm == "dapo" else None,
            prompts_per_step=len(PROMPTS),
            steps_per_generation=1,
            max_resample=0,
            **fields,
        )
    )


def theirs(trainer, output):
    trainer.model.zero_grad()
    loss = trainer.compute_loss(trainer.model, output)
    loss.backward()
    return loss, {name: weight.grad for name, weight in trainer.model.named_parameters()}


def ours(policy, batch, config):
    (cut,) = minibatches(batch, config)
    (taught,) = plain_batches([cut], config)
    old = cut.rollouts.old_logprobs.rows(cut.trained)
    policy.model.zero_grad()
    metrics, _ = backward(policy, replace(taught, old_logprobs=old), config)
    return metrics, {name: weight.grad for name, weight in policy.model.named_parameters()}


@pytest.mark.parametrize(
    ("algorithm", "fields"),
    [*((algorithm, {}) for algorithm in TOLD), ("dapo", FILTERED)],
    ids=[*TOLD, "dapo with overlong filtering"],
)
def test_loss_and_gradient_of_a_step_are_those_of_trl(chat, tmp_path, algorithm, fields):
    rewards = Rewards()
    told = {"mask_truncated_completions": True} if fields else {}
    trainer = trained_by_trl(chat, tmp_path, algorithm, rewards, **told)
    output, batch = sampled(trainer, rewards)
    config = configured(chat, algorithm, **fields)
    policy = policies.load(config)
    signal = differing(rewards.rewards)
    assert 1 < signal.sum() < len(PROMPTS)
    assert 0 < batch.rollouts.truncated.sum() < len(rewards.rewards)
    if config.dynamic_sampling:  # which TRL has not: it gets what is left
        output = of_groups(output, signal)
        batch = next(filled(iter([batch]), policy, config, over=None))
        assert batch.rollouts.n_groups == signal.sum()
    trainer._prepare_inputs = lambda inputs: inputs  # they are prepared
    for off_policy in (False, True):
        if off_policy:
            moved(trainer.model)
            moved(policy.model)
        expected, gradients = theirs(trainer, output)
        metrics, found = ours(policy, batch, config)
        assert float(metrics["loss"]) == pytest.approx(float(expected.detach()), abs=1e-5)
        for name, gradient in gradients.items():
            torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-5)
        assert max(float(gradient.abs().max()) for gradient in gradients.values()) > 1e-2
    assert metrics["ratio/max"] > 1.001
    assert algorithm == "sapo" or metrics["clip/token"] > 0


def test_the_tokens_of_a_conversation_are_those_of_trl(chat, tmp_path):
    rewards = Rewards()
    trainer = trained_by_trl(chat, tmp_path, "gspo", rewards)
    _, batch = sampled(trainer, rewards)
    tokenizer = AutoTokenizer.from_pretrained(chat)
    rows = text_rows(tokenizer, rendered(tokenizer, PROMPTS))
    frame = before(tokenizer)
    found = batch.rollouts.prompt_tokens
    assert [framed(row, frame) for row in rows] == [
        found.row(SIZE * place).tolist() for place in range(len(PROMPTS))
    ]
