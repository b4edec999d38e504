"""Peak memory of one optimizer step of a model of 100 million random weights, and its estimate.

    python benches/bench_memory.py

Each case runs in a process of its own under the profiler of torch, which tells every block that the
allocator of the CPU gives and takes back from the making of the model on. The first step makes the
optimizer's state; the peak is that of the second. The estimate is the one that a run prints before
it begins.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np
import torch
from measurement import answer, ask, refuse_debug_build
from tokenizers import Tokenizer, models
from torch.profiler import ProfilerActivity, profile, record_function
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from gspo_rs.rollouts import Ragged
from gspo_rs.train.config.config import Config, resolve
from gspo_rs.train.inputs import Inputs
from gspo_rs.train.memory import Memory, expected_pass, measured
from gspo_rs.train.model import policy as policies
from gspo_rs.train.step.optimizer import make_optimizer
from gspo_rs.train.step.training_batch import TrainingBatch
from gspo_rs.train.step.update import take

CASES: dict[str, dict[str, Any]] = {
    "float32, AdamW": {},
    "bfloat16, AdamW": {"weights": "bfloat16"},
    "float32, 8-bit AdamW": {"optimizer": "adamw_8bit"},
    "bfloat16, 8-bit AdamW": {"weights": "bfloat16", "optimizer": "adamw_8bit"},
    "float32, LoRA of rank 16": {"lora_r": 16},
    "bfloat16, LoRA of rank 16": {"lora_r": 16, "weights": "bfloat16"},
}
PROMPT, COMPLETION = 64, 192
SIZES = {"prompts_per_step": 4, "num_generations": 4, "max_completion_length": COMPLETION}


def make_model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=28_000,
        hidden_size=768,
        intermediate_size=2048,
        num_hidden_layers=8,
        num_attention_heads=12,
        num_key_value_heads=12,
        max_position_embeddings=512,
        tie_word_embeddings=False,
    )
    return LlamaForCausalLM(shape).eval()


def make_training_batch(n: int) -> TrainingBatch:
    draw = np.random.default_rng(0)
    prompts, completions = (
        Ragged(draw.integers(0, 28_000, n * size), np.full(n, size))
        for size in (PROMPT, COMPLETION)
    )
    advantages = torch.from_numpy(draw.normal(size=n))
    return TrainingBatch(prompts, completions, advantages, torch.full((n,), 1 / n / COMPLETION))


def step(fields: dict[str, Any]) -> tuple[Memory, Any]:
    """Load a policy and take two steps under the profiler."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a")), eos_token="a"
    )
    config = resolve(Config(model="m", prompts="p", reward="r:f", **SIZES, **fields))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        model = make_model()
        if config.weights == "bfloat16":
            model = model.bfloat16()
        policy = policies.load(config, inputs=Inputs(model=model, tokenizer=tokenizer))
        del model
        largest = expected_pass(policy, config, PROMPT)
        estimate = measured(policy, config, reference=False, cache=0, largest=largest)
        optimizer = make_optimizer(policy, config)
        given = make_training_batch(config.prompts_per_step * config.num_generations)
        for name in ("first", "second"):
            with record_function(name):
                take(policy, optimizer, given, config, rate=1e-6)
    return estimate, found


def peak(found: Any) -> int:
    """Return the most bytes that were given and not taken back during the second step."""
    events = found.profiler.kineto_results.events()
    began = next(event.start_ns() for event in events if event.name() == "second")
    given = sorted(
        (event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"
    )
    held, most = 0, 0
    for at, n_bytes in given:
        held += n_bytes
        most = max(most, held) if at >= began else 0
    return most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", choices=CASES)
    options = parser.parse_args()
    refuse_debug_build()
    if options.case:
        estimate, found = step(CASES[options.case])
        answer({"peak": peak(found), "estimate": estimate.total, **vars(estimate)})
        return
    print("| weights, what is trained | measured, MiB | estimate, MiB | estimate / measured |")
    print("|---|---:|---:|---:|")
    for name in CASES:
        figures = ask(__file__, "--case", name)
        print(f"{name}: {figures}", file=sys.stderr)
        mebibytes = [figures[key] / 2**20 for key in ("peak", "estimate")]
        print(f"| {name} | {mebibytes[0]:,.0f} | {mebibytes[1]:,.0f} |", end="")
        print(f" {mebibytes[1] / mebibytes[0]:.2f} |")


if __name__ == "__main__":
    main()
