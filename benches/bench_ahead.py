"""Training with groups that are sampled ahead, against sampling and training in turns.

    python benches/bench_ahead.py

The sampler takes as long as training does, most of it by waiting, as a run waits for a server: real
completions of the policy, given out late. Each round takes the contenders in turn; seconds are
those of the training thread between two steps, the least round of each.
"""

from __future__ import annotations

import logging
import tempfile
import time
from pathlib import Path

import torch
from measurement import refuse_debug_build
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from gspo_rs.train import metrics, train

ROUNDS, STEPS, LEFT_OUT = 3, 12, 4
LETTERS = "$?abcdefghijklmnopqrstuvwxyz"
OPTIONS = {
    "prompts": [{"prompt": a + b} for a in "abcdefgh" for b in "ijklmnop"],
    "num_generations": 8,
    "prompts_per_step": 8,
    "steps_per_generation": 1,
    "num_iterations": 4,
    "max_completion_length": 12,
    "learning_rate": 1e-4,
    "eval_size": 0,
    "save_steps": 0,
    "algorithm": "grpo",
    "device": "cpu",
}


def make_model(folder: Path) -> Path:
    """Write a model whose training takes some tenths of a second a batch, and its tokenizer."""
    vocabulary = {letter: number for number, letter in enumerate(LETTERS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", behavior="isolated")
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="$", unk_token="?")
    made.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(LETTERS),
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=64,
        bos_token_id=None,
        eos_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def reward(completions: list[str], **_: object) -> list[float]:
    """Count a letter."""
    return [float(text.count("a")) for text in completions]


def run(model: Path, out: Path, pause: float, staleness: int) -> list[dict[str, float]]:
    """Train; return the metrics of the steps, one a line."""

    def late(sampler, prompts, **_):
        found = sampler.generate(prompts)
        time.sleep(pause)
        return found

    given = {"model": str(model), "output_dir": str(out), "max_staleness": staleness}
    steps = STEPS * OPTIONS["num_iterations"]
    train(rollout=late, reward=reward, quiet=True, max_steps=steps, **given, **OPTIONS)
    return metrics.read(out / "metrics.jsonl")


def per_batch(lines: list[dict[str, float]], *names: str) -> float:
    """Average seconds of a batch, without the first ones."""
    each = OPTIONS["num_iterations"]
    kept = lines[LEFT_OUT * each :]
    return sum(line[name] for line in kept for name in names) / (len(kept) / each)


def main() -> None:
    refuse_debug_build()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        model = make_model(Path(folder) / "model")
        lines = run(model, Path(folder) / "calibration", 0.0, 0)
        training = per_batch(lines, "time/prepare", "time/backward", "time/optimizer")
        pause = max(training - per_batch(lines, "time/generate"), 0.0)
        least: dict[int, float] = {}
        waits: dict[int, float] = {}
        for turn in range(ROUNDS):
            for staleness in (0, 1, 2):
                lines = run(model, Path(folder) / f"{turn}-{staleness}", pause, staleness)
                seconds = per_batch(lines, "time/step")
                if seconds < least.get(staleness, float("inf")):
                    least[staleness] = seconds
                    waits[staleness] = per_batch(lines, "time/wait") if staleness else 0.0
        print(f"training {training:.3f} s a batch, the sampler waits {pause:.3f} s of as much")
        print(f"{'max_staleness':>13} {'batch, s':>9} {'of it waiting':>13} {'throughput':>10}")
        for staleness, seconds in least.items():
            ratio = least[0] / seconds
            print(f"{staleness:13} {seconds:9.3f} {waits[staleness]:13.3f} {ratio:9.2f}x")


if __name__ == "__main__":
    main()
