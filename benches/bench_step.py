"""Forward and backward of one optimizer step, against the plain PyTorch expression.

    python benches/bench_step.py [--sequences 64] [--vocabulary 32000]
    python benches/bench_step.py --device cuda --shape qwen2-0.5b --vocabulary 151936 \
        --sequences 8 --completions 512 1024

The rival pads every sequence to the longest, takes all logits and their log-softmax, and writes
the GSPO loss down as in its paper. Ours cuts micro-batches of like length and never holds the
logits of a step. Both gradients are checked to be equal first; then each contender runs in a
process of its own, which also tells its peak memory above that of the model and the data. What a
first call alone costs is not part of it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


PROMPTS = 8, 40
"""Fewest tokens, and one more than the most."""
SHOWN = 2**20
"""Numbers of the gradient of one parameter that are compared, at most."""


def make_model(shape: str, vocabulary: int, *, context: int, layers: int | None = None) -> Any:
    torch.manual_seed(0)
    hidden, intermediate, every, heads, shared = SHAPES[shape]
    config = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers or every,
        num_attention_heads=heads,
        num_key_value_heads=shared,
        max_position_embeddings=context,
        tie_word_embeddings=shape != "small",
        use_cache=False,
    )
    return Qwen2ForCausalLM(config).eval()


def make_policy(options: argparse.Namespace) -> Policy:
    device, context = torch.device(options.device), PROMPTS[1] + options.completions[1]
    model = make_model(options.shape, options.vocabulary, context=context, layers=options.layers)
    return Policy(
        model=model.to(device),
        tokenizer=None,
        device=device,
        autocast=torch.bfloat16 if device.type == "cuda" else None,
        shape="padded",
        context=context,
        temperature=1.0,
    )


def make_training_batch(options: argparse.Namespace) -> TrainingBatch:
    sequences, vocabulary = options.sequences, options.vocabulary
    rng = np.random.default_rng(0)
    tokens = lambda low, high: [  # noqa: E731
        rng.integers(0, vocabulary, rng.integers(low, high)) for _ in range(sequences)
    ]
    prompts = Ragged.from_rows(tokens(*PROMPTS), np.int64)
    completions = Ragged.from_rows(tokens(*options.completions), np.int64)
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


def passes(contender: Callable[..., Tensor], policy: Policy) -> Callable[[TrainingBatch], float]:
    """Return a step's passes, from gradients that are not there to those that are."""

    def run(training_batch: TrainingBatch) -> float:
        policy.model.zero_grad(set_to_none=True)
        return contender(policy, training_batch).item()  # waits for a GPU

    return run


def gradient(policy: Policy) -> Tensor:
    """Return numbers of the gradient, evenly from every parameter."""
    every = (parameter.grad.flatten() for parameter in policy.model.parameters())
    return torch.cat([one[:: max(len(one) // SHOWN, 1)].float().cpu() for one in every])


def run(name: str, options: argparse.Namespace) -> dict[str, float]:
    policy, training_batch = make_policy(options), make_training_batch(options)
    on_gpu = policy.device.type == "cuda"
    before = torch.cuda.max_memory_allocated() if on_gpu else 0
    call = passes(CONTENDERS[name], policy)
    with spending() as spent:
        call(training_batch)
        least = turns({name: lambda: call(training_batch)}, options.repeats, turn=0)
    added = (torch.cuda.max_memory_allocated() - before) / 2**20 if on_gpu else spent.added
    np.save(options.gradient, gradient(policy).numpy())
    return {"seconds": least[name], "MiB": added}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sequences", type=int, default=64)
    parser.add_argument("--vocabulary", type=int, default=32_000)
    parser.add_argument("--completions", type=int, nargs=2, default=(10, 160), help="their tokens")
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
