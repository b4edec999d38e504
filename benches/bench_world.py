"""One optimizer step of a model of 100 million random weights on 1, 2 and 4 processes.

    python benches/bench_world.py

What each process keeps of weights, gradients and optimizer state is the sum of its own tensors; the
gradient is compared with that of one process first. A process has one thread, so that two of them
on two cores stand beside one with two threads, which is taken too.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.distributed as dist
from bench_memory import SIZES, make_model, make_training_batch
from measurement import refuse_debug_build
from tokenizers import Tokenizer, models
from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers import PreTrainedTokenizerFast

from gspo_rs.train.config.config import Config, resolve
from gspo_rs.train.inputs import Inputs
from gspo_rs.train.model import policy as policies
from gspo_rs.train.step.optimizer import make_optimizer
from gspo_rs.train.step.update import take
from gspo_rs.train.world import joined

STEPS = 3


def own_bytes(tensors: list[Tensor]) -> int:
    """Return the bytes that this process has of tensors which may be cut over several."""
    parts = [t.to_local() if isinstance(t, DTensor) else t for t in tensors]
    return sum(part.numel() * part.element_size() for part in parts)


def measure() -> dict[str, float]:
    """Take some steps in this process, and the others of its world."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a")), eos_token="a"
    )
    config = resolve(Config(model="m", prompts="p", reward="r:f", **SIZES))
    with joined(600) as world:
        policy = policies.load(
            config, inputs=Inputs(model=make_model(), tokenizer=tokenizer), world=world
        )
        policy = policies.shared(policy)
        optimizer = make_optimizer(policy, config)
        batch, seconds, norms, held = make_training_batch(16), [], [], 0

        def look(*_: object) -> None:
            nonlocal held
            held = own_bytes([p.grad for p in policy.trainable().values() if p.grad is not None])

        optimizer.register_step_pre_hook(look)
        for _ in range(STEPS):
            began = time.perf_counter()
            norms.append(take(policy, optimizer, batch, config, rate=1e-4)["grad_norm"])
            seconds.append(time.perf_counter() - began)
        state = [v for s in optimizer.state.values() for v in s.values()]
        weights = own_bytes(list(policy.trainable().values()))
        return {
            "seconds": min(seconds),
            "MiB": (weights + held + own_bytes(state)) / 2**20,
            "grad_norm": norms[0],
        }


def run(size: int, threads: int) -> dict[str, float]:
    """Measure `size` processes; return the figures of the one that has the most."""
    with tempfile.TemporaryDirectory() as folder:
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(size)]
        script = [__file__, "--out", folder, "--threads", str(threads)]
        subprocess.run([*torchrun, *script], check=True, stdout=subprocess.DEVNULL)
        found = [json.loads(path.read_text()) for path in Path(folder).iterdir()]
    return {name: max(one[name] for one in found) for name in found[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    refuse_debug_build()
    if options.out is not None:
        torch.set_num_threads(options.threads)
        found = measure()
        # Whose rank is gone by then: any name of its own does.
        with tempfile.NamedTemporaryFile("w", dir=options.out, delete=False) as file:
            json.dump(found, file)
        return
    cases = [(1, 1), (1, 2), (2, 1), (4, 1)]
    found = {case: run(*case) for case in cases}
    expected = found[1, 1]["grad_norm"]
    print(f"{'processes':>9} {'threads':>7} {'MiB each':>9} {'of one':>7} {'step, s':>8}")
    for (size, threads), one in found.items():
        assert abs(one["grad_norm"] / expected - 1) < 1e-4, one
        share = one["MiB"] / found[1, 1]["MiB"]
        print(f"{size:9} {threads:7} {one['MiB']:9.0f} {share:7.3f} {one['seconds']:8.2f}")


if __name__ == "__main__":
    main()
    if dist.is_initialized():
        dist.destroy_process_group()
