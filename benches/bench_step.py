"""Forward and backward of one optimizer step, against the plain PyTorch expression.

    python benches/bench_step.py [--sequences 64] [--vocabulary 32000]
    python benches/bench_step.py --device cuda --shape qwen2-0.5b --vocabulary 151936

The rival pads every sequence to the longest, takes all logits and their log-softmax, and writes
the GSPO loss down as in its paper. Ours cuts micro-batches of like length and never holds the
logits of a step. Both gradients are checked to be equal first; then each contender runs in a
process of its own, which also tells its peak memory above that of the model and the data.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from measurement import answer, ask, refuse_debug_build, spending, turns
from results import record
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM

from gspo_rs.losses.reductions import sequence_weights
from gspo_rs.rollouts import Ragged
from gspo_rs.train.config.config import Config, resolve
from gspo_rs.train.model.policy import Policy
from gspo_rs.train.step.training_batch import TrainingBatch
from gspo_rs.train.step.update import backward

CONFIG = resolve(Config(model="", rollouts="none", algorithm="gspo"))


# hidden size, intermediate size, layers, heads, heads of keys and values; random weights.
SHAPES = {
    "small": (128, 344, 4, 4, 2),
    "qwen2-0.5b": (896, 4864, 24, 14, 2),
    "qwen2-1.5b": (1536, 8960, 28, 12, 2),
}


def make_policy(options: argparse.Namespace) -> Policy:
    torch.manual_seed(0)
    hidden, intermediate, layers, heads, shared = SHAPES[options.shape]
    shape = Qwen2Config(
        vocab_size=options.vocabulary,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=options.layers or layers,
        num_attention_heads=heads,
        num_key_value_heads=shared,
        max_position_embeddings=512,
        tie_word_embeddings=options.shape != "small",
        use_cache=False,
    )
    device = torch.device(options.device)
    return Policy(
        model=Qwen2ForCausalLM(shape).eval().to(device),
        tokenizer=None,
        device=device,
        autocast=torch.bfloat16 if device.type == "cuda" else None,
        shape="padded",
        context=512,
        temperature=1.0,
    )


def make_training_batch(sequences: int, vocabulary: int) -> TrainingBatch:
    rng = np.random.default_rng(0)
    tokens = lambda low, high: [  # noqa: E731
        rng.integers(0, vocabulary, rng.integers(low, high)) for _ in range(sequences)
    ]
    prompts = Ragged.from_rows(tokens(8, 40), np.int64)
    completions = Ragged.from_rows(tokens(10, 160), np.int64)
    # Near the policy's own: a random model gives every token about 1 / V.
    old = rng.normal(-np.log(vocabulary), 0.01, len(completions.values)).astype(np.float32)
    return TrainingBatch(
        prompts=prompts,
        completions=completions,
        advantages=torch.from_numpy(rng.normal(size=sequences)),
        weights=sequence_weights(completions.lengths),
        old_logprobs=Ragged(old, completions.lengths),
    )


def ours(policy: Policy, training_batch: TrainingBatch) -> Tensor:
    return backward(policy, training_batch, CONFIG)[0]["loss"]


def plain(policy: Policy, training_batch: TrainingBatch) -> Tensor:
    ids, mask, old, attention, advantages = (
        given.to(policy.device)
        for given in (
            *padded(training_batch),
            within(training_batch),
            training_batch.advantages.float(),
        )
    )
    with policy.computing():
        logits = policy.model(input_ids=ids, attention_mask=attention.long()).logits[:, :-1].float()
    logprobs = logits.log_softmax(-1).gather(2, ids[:, 1:, None])[:, :, 0]
    log_ratio = torch.where(mask, logprobs - old, 0.0).sum(1) / mask.sum(1)
    ratio = log_ratio.exp()
    low, high = 1 - CONFIG.clip_low, 1 + CONFIG.clip_high
    loss = -torch.minimum(ratio * advantages, ratio.clamp(low, high) * advantages).mean()
    loss.backward()
    return loss.detach()


def within(training_batch: TrainingBatch) -> Tensor:
    longest = torch.arange(int(lengths(training_batch).max()))
    return longest < lengths(training_batch)[:, None]


def lengths(training_batch: TrainingBatch) -> Tensor:
    return torch.from_numpy(training_batch.prompts.lengths + training_batch.completions.lengths)


def padded(training_batch: TrainingBatch) -> tuple[Tensor, Tensor, Tensor]:
    longest = int(lengths(training_batch).max())
    ids = torch.zeros(len(training_batch.prompts), longest, dtype=torch.long)
    mask = torch.zeros(len(ids), longest - 1, dtype=torch.bool)
    old = torch.zeros(len(ids), longest - 1)
    for row in range(len(ids)):
        prompt, completion = training_batch.prompts.row(row), training_batch.completions.row(row)
        n, end = len(prompt), len(prompt) + len(completion)
        ids[row, :n], ids[row, n:end] = torch.from_numpy(prompt), torch.from_numpy(completion)
        mask[row, n - 1 : end - 1] = True
        old[row, n - 1 : end - 1] = torch.from_numpy(training_batch.old_logprobs.row(row))
    return ids, mask, old


CONTENDERS = {"gspo_rs": ours, "plain PyTorch": plain}


def run(name: str, options: argparse.Namespace) -> dict[str, float]:
    policy = make_policy(options)
    training_batch = make_training_batch(options.sequences, options.vocabulary)
    on_gpu = policy.device.type == "cuda"
    before = torch.cuda.max_memory_allocated() if on_gpu else 0

    def step() -> None:
        policy.model.zero_grad(set_to_none=True)
        CONTENDERS[name](policy, training_batch).item()  # waits for a GPU

    with spending() as spent:
        least = turns({name: step}, options.repeats, turn=0)
    added = (torch.cuda.max_memory_allocated() - before) / 2**20 if on_gpu else spent.added
    gradient = torch.cat([p.grad.flatten().cpu() for p in policy.model.parameters()])
    np.save(options.gradient, gradient.numpy())
    return {"seconds": least[name], "MiB": added}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sequences", type=int, default=64)
    parser.add_argument("--vocabulary", type=int, default=32_000)
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--layers", type=int, help="of the model; those of its shape by default")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--run", choices=CONTENDERS)
    parser.add_argument("--gradient", type=Path, help="where --run leaves its gradient")
    options = parser.parse_args()
    refuse_debug_build()
    if options.run:
        answer(run(options.run, options))
        return
    found, gradients = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for name in CONTENDERS:
            path = Path(folder) / f"{name}.npy"
            found[name] = ask(__file__, *sys.argv[1:], "--run", name, "--gradient", path)
            gradients[name] = np.load(path)
    expected = gradients["plain PyTorch"]
    bound = (5e-2 if options.device == "cuda" else 1e-5) * np.abs(expected).max()
    np.testing.assert_allclose(gradients["gspo_rs"], expected, rtol=0, atol=bound)
    print(
        f"one step, {options.sequences} sequences, V {options.vocabulary}, {options.shape}, ",
        end="",
    )
    seconds = {name: figures["seconds"] for name, figures in found.items()}
    record(f"step: {options.shape}", seconds, ours=["gspo_rs"], rows=options.sequences)
    print("bfloat16 on a GPU\n" if options.device == "cuda" else "float32 on a CPU\n")
    print("| contender | seconds | peak MiB above the model |\n|---|---:|---:|")
    for name, figures in found.items():
        print(f"| {name} | {figures['seconds']:.2f} | {figures['MiB']:.0f} |")


if __name__ == "__main__":
    main()
