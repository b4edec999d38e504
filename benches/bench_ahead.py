"""Training with groups that are sampled ahead, against sampling and training in turns.

    python benches/bench_ahead.py

Both sides wait as long as a run waits for a server and for a GPU, so that neither takes the
processors of the other: real completions of the policy, given out late, and real steps, finished
late. Each round takes the contenders in turn; seconds are those of the training thread between two
batches, the least round of each.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from pathlib import Path

import torch
from measurement import refuse_debug_build
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from gspo_rs.train import metrics, train
from gspo_rs.train.step import update

ROUNDS, STEPS, LEFT_OUT = 3, 14, 4
LETTERS = "$?abcdefghijklmnop"
OPTIONS = {
    "prompts": [{"prompt": a + b} for a in "abcdefgh" for b in "ijklmnop"],
    "num_generations": 4,
    "prompts_per_step": 4,
    "steps_per_generation": 1,
    "max_completion_length": 8,
    "max_steps": STEPS,
    "eval_size": 0,
    "save_steps": 0,
    "algorithm": "grpo",
    "device": "cpu",
}


def make_model(folder: Path) -> Path:
    """Write a model that takes next to no time, and its tokenizer."""
    vocabulary = {letter: number for number, letter in enumerate(LETTERS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", behavior="isolated")
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="$", unk_token="?")
    made.save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    config = LlamaConfig(
        vocab_size=len(LETTERS),
        num_attention_heads=2,
        max_position_embeddings=64,
        bos_token_id=None,
        eos_token_id=0,
        **sizes,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def reward(completions: list[str], **_: object) -> list[float]:
    """Count a letter, and tokens a little, so that most groups have a signal."""
    return [text.count("a") + len(text) / 99 for text in completions]


def run(model: Path, out: Path, wait: float, staleness: int) -> tuple[float, float]:
    """Train; return the seconds of a batch, and those of them that training waited for groups."""

    def late(sampler, prompts, **_):
        time.sleep(wait)
        return sampler.generate(prompts)

    given = {"model": str(model), "output_dir": str(out), "max_staleness": staleness}
    train(rollout=late, reward=reward, quiet=True, **given, **OPTIONS)
    kept = metrics.read(out / "metrics.jsonl")[LEFT_OUT:]
    seconds = sum(line["time/step"] for line in kept) / len(kept)
    return seconds, sum(line.get("time/wait", 0.0) for line in kept) / len(kept)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wait", type=float, default=0.5, help="seconds of each side for a batch")
    options = parser.parse_args()
    refuse_debug_build()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    take = update.take

    def slow(*given, **named):
        time.sleep(options.wait)
        return take(*given, **named)

    update.take = slow
    least: dict[int, tuple[float, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        model = make_model(Path(folder) / "model")
        for turn in range(ROUNDS):
            for staleness in (0, 1, 2):
                found = run(model, Path(folder) / f"{turn}-{staleness}", options.wait, staleness)
                least[staleness] = min(least.get(staleness, found), found)
    print(f"{options.wait:g} s of sampling and {options.wait:g} s of training a batch")
    print(f"{'max_staleness':>13} {'batch, s':>9} {'waiting, s':>10} {'throughput':>10}")
    for staleness, (seconds, waiting) in least.items():
        print(f"{staleness:13} {seconds:9.3f} {waiting:10.3f} {least[0][0] / seconds:9.2f}x")


if __name__ == "__main__":
    main()
