"""Completions of a step's prompts, against transformers' own generation. CPU, one thread.

    python benches/bench_sampling.py [--prompts 8] [--repeats 3]

Models of random weights. With the most probable token only, both give the same tokens, which is
checked first; then both draw. Ours gives log-probabilities as well. "ending" has so many end tokens
that most completions are short, and a few are not, as in practice.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from measurement import refuse_debug_build
from results import record
from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM

from gspo_rs.samplers.transformers import generate

# hidden size, intermediate size, layers, heads, heads of keys and values, vocabulary
SHAPES = {
    "heads of 8": (64, 172, 5, 8, 4, 512),
    "heads of 64": (512, 1024, 3, 8, 2, 2048),
    "heads of 128": (512, 1024, 3, 4, 4, 2048),
}
COMPLETION = 64


class Numbers:
    """A tokenizer of numbers: nothing of it is measured."""

    bos_token_id = pad_token_id = eos_token_id = None
    all_special_ids: tuple[int, ...] = ()
    chat_template = None

    @property
    def added_tokens_decoder(self) -> dict[int, object]:
        return {}

    def __len__(self) -> int:
        return max(vocabulary for *_, vocabulary in SHAPES.values())

    def decode(self, row: list[int], **_options: object) -> str:
        return " ".join(map(str, row))


def make_model(shape: str, *, ending: bool) -> Qwen2ForCausalLM:
    torch.manual_seed(0)
    hidden, intermediate, layers, heads, shared, vocabulary = SHAPES[shape]
    settings = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=shared,
        max_position_embeddings=1024,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = Qwen2ForCausalLM(settings).eval()
    # Of nearly equal probabilities: one of 32 tokens ends a completion.
    ends = list(range(vocabulary // 32)) if ending else None
    model.generation_config = GenerationConfig(eos_token_id=ends, pad_token_id=0)
    return model


def ours(model: Qwen2ForCausalLM, prompts: list[list[int]], *, greedy: bool) -> list[list[int]]:
    found = generate(
        model,
        Numbers(),
        prompts,
        num_generations=8,
        max_completion_length=COMPLETION,
        top_k=1 if greedy else 0,
        seed=0,
    )
    return [found.completion_tokens.row(row).tolist() for row in range(found.n_rollouts)]


def theirs(model: Qwen2ForCausalLM, prompts: list[list[int]], *, greedy: bool) -> list[list[int]]:
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in prompts for _ in range(8)])
    mask = torch.tensor(
        [[0] * (width - len(row)) + [1] * len(row) for row in prompts for _ in range(8)]
    )
    found = model.generate(
        ids,
        attention_mask=mask,
        max_new_tokens=COMPLETION,
        do_sample=not greedy,
        top_k=None if greedy else 0,
    )
    ends = set(model.generation_config.eos_token_id or ())
    return [until(ends, row) for row in found[:, width:].tolist()]


def until(ends: set[int], row: list[int]) -> list[int]:
    place = next((place for place, token in enumerate(row) if token in ends), len(row))
    return row[: place + 1]


CONTENDERS = {"gspo_rs": ours, "transformers": theirs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    refuse_debug_build()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    print(f"{options.prompts} prompts of 20 to 60 tokens, 8 completions of at most {COMPLETION}\n")
    print("| model | completions | gspo_rs, CPU s | transformers, CPU s | ratio |")
    print("|---|---|---:|---:|---:|")
    for shape in SHAPES:
        prompts = [
            rng.integers(100, 512, n).tolist() for n in rng.integers(20, 61, options.prompts)
        ]
        for ending in (False, True):
            model = make_model(shape, ending=ending)
            assert ours(model, prompts, greedy=True) == theirs(model, prompts, greedy=True)
            best = dict.fromkeys(CONTENDERS, float("inf"))
            for _ in range(options.repeats):
                for name, sample in CONTENDERS.items():
                    began = time.process_time()
                    sample(model, prompts, greedy=False)
                    best[name] = min(best[name], time.process_time() - began)
            kind = "ending" if ending else "full"
            record(f"sampling: {shape}, {kind}", best, ours=["gspo_rs"], rows=8 * options.prompts)
            a, b = best.values()
            print(f"| {shape} | {kind} | {a:.2f} | {b:.2f} | {a / b:.2f} |", flush=True)


if __name__ == "__main__":
    main()
