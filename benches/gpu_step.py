"""The training step of `gpu_once.py`: its phases and profile, and its passes against plain PyTorch.

What it imports needs Polars and transformers; without them only this stage fails.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from gpu_timing import peak, timed

STEPS, PROFILED = 3, 2
"""The last is written down: the first compiles and fills caches, and a profile takes time."""
LARGE = {"shape": "qwen2-0.5b", "prompts": 16, "generations": 8, "completion": 512}
LITTLE = {"shape": "small", "prompts": 2, "generations": 4, "completion": 24}


def step(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Train for some steps, online; then compare a step's passes with the plain expression."""
    sizes = LARGE if options.device.type == "cuda" else LITTLE
    yield _trained(options, sizes)
    yield from _passes(options, sizes)


def _trained(options: argparse.Namespace, sizes: dict[str, Any]) -> dict[str, Any]:
    """Return the phases of a step, in seconds; write its kernels into profile.txt."""
    from gspo_rs.train import train

    model, tokenizer = model_and_tokenizer(sizes["shape"], options)
    prompts = [{"prompt": " ".join(f"w{(7 * k + i) % 97}" for i in range(16))} for k in range(64)]

    def reward(completions: list[str], **_: object) -> list[float]:
        # Never equal in a whole group, whatever random weights write: such a step trains nothing.
        return [float(sum(map(ord, text)) % 997) for text in completions]

    with tempfile.TemporaryDirectory() as folder, _profiled(options.output / "profile.txt"):
        result = train(
            model=model,
            tokenizer=tokenizer,
            prompts=prompts,
            reward=reward,
            output_dir=str(Path(folder) / "run"),
            device=str(options.device),
            prompts_per_step=sizes["prompts"],
            num_generations=sizes["generations"],
            steps_per_generation=1,
            max_completion_length=sizes["completion"],
            max_steps=STEPS,
            save_steps=0,
            eval_size=0,
        )
        lines = result.metrics_file.read_text().splitlines()
    last = json.loads(lines[-1])
    row = {name: value for name, value in last.items() if name.startswith("time/")}
    row |= {name: last[name] for name in ("tokens", "loss", "grad_norm") if name in last}
    if options.device.type == "cuda":
        row["MiB"] = torch.cuda.max_memory_allocated(options.device) / 2**20
    return {"name": "train", **sizes, **row}


def model_and_tokenizer(shape: str, options: argparse.Namespace) -> tuple[Any, Any]:
    """Make a model of random weights, and a tokenizer that knows its words by number."""
    from bench_step import make_model
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    _, vocabulary = options.shape
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(vocabulary)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token=f"w{vocabulary - 1}")
    return make_model(shape, vocabulary, context=4096), tokenizer


@contextmanager
def _profiled(output: Path) -> Iterator[None]:
    """Profile one step of a run: forward, backward and optimizer."""
    from gspo_rs.train.step import update

    take, numbers = update.take, count(1)
    output.write_text("")

    def taken(*given: Any, **more: Any) -> Any:
        if next(numbers) != PROFILED:
            return take(*given, **more)
        with torch.profiler.profile() as profile:
            found = take(*given, **more)
        by = "device_time_total" if torch.cuda.is_available() else "cpu_time_total"
        output.write_text(profile.key_averages().table(sort_by=by, row_limit=40) + "\n")
        return found

    with mock.patch.object(update, "take", taken):
        yield
    if not output.stat().st_size:
        raise RuntimeError(f"no step was profiled: fewer than {PROFILED} had a group with signal")


def _passes(options: argparse.Namespace, sizes: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Time forward and backward of a step whose completions are long, ours and plain."""
    import bench_step

    made = argparse.Namespace(
        device=str(options.device),
        shape=sizes["shape"],
        vocabulary=options.shape[1],
        layers=None,
        sequences=8,
        completions=(sizes["completion"], 2 * sizes["completion"]),
    )
    policy, given = bench_step.make_policy(made), bench_step.make_training_batch(made)
    for name, contender in bench_step.CONTENDERS.items():
        call: Callable[[Any], object] = bench_step.passes(contender, policy)
        yield {
            "name": f"forward and backward, {name}",
            "seconds": vars(timed(call, [given], min(options.rounds, 5), options.device)),
            "MiB": peak(lambda call=call: call(given), options.device),
            "gradient": float(bench_step.gradient(policy).norm()),
        }
