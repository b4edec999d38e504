"""A model of 100 million random weights on 1, 2 and 4 processes: memory, and CPU of a step.

    python benches/bench_world.py

What each process keeps of weights, gradients and optimizer state is the sum of its own tensors;
what it takes while it loads is the highest of its private resident memory, looked at all the time,
above what was there before: pages of the file that it is loaded from are not in it. The gradient is
compared with that of one process first. CPU time is that of all processes together, since their
seconds depend on what else runs: two processes of one thread on two cores stand beside one of two
threads.

Before, what `World` costs one process: the CPU time of all its methods in the steps of a model so
small that little else is done.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType
from typing import Any

import torch
import torch.distributed as dist
from bench_memory import SIZES, make_model, make_training_batch
from measurement import refuse_debug_build
from tokenizers import Tokenizer, models
from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from gspo_rs.train.config.config import Config, resolve
from gspo_rs.train.inputs import Inputs
from gspo_rs.train.model import policy as policies
from gspo_rs.train.model.sharded import shard
from gspo_rs.train.step.optimizer import make_optimizer
from gspo_rs.train.step.update import take
from gspo_rs.train.world import World, joined

STEPS = 2
SEQUENCES = 4
TOKENIZER = PreTrainedTokenizerFast(
    tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a")), eos_token="a"
)


def own_bytes(tensors: list[Tensor]) -> int:
    """Return the bytes that this process has of tensors which may be cut over several."""
    parts = [t.to_local() if isinstance(t, DTensor) else t for t in tensors]
    return sum(part.numel() * part.element_size() for part in parts)


def private_bytes() -> int:
    """Return the resident memory of this process that is no page of a file."""
    (kib,) = re.findall(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(kib) * 1024


@contextmanager
def watched(found: dict[str, float], name: str) -> Iterator[None]:
    """Put down the most private memory during a block above that before it, in MiB."""
    before, most, done = private_bytes(), [0], threading.Event()

    def look() -> None:
        while not done.wait(0.002):
            most.append(max(most.pop(), private_bytes()))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        found[name] = (most[0] - before) / 2**20


def measure(model: Path) -> dict[str, float]:
    """Load a model and take some steps, with the others of this world."""
    config = resolve(Config(model=str(model), prompts="p", reward="r:f", **SIZES))
    found: dict[str, float] = {}
    with joined(600) as world:
        with watched(found, "loading, MiB"):
            loaded = policies.load(config, world=world)
            if world.size > 1:
                shard(loaded.model, None, loaded.device)
        del loaded
        policy = policies.shared(policies.load(config, world=world), config)
        optimizer = make_optimizer(policy, config)
        batch, norms, held = make_training_batch(SEQUENCES), [], 0
        cpu, seconds = [], []

        def look(*_: object) -> None:
            nonlocal held
            held = own_bytes([p.grad for p in policy.trainable().values() if p.grad is not None])

        optimizer.register_step_pre_hook(look)
        for _ in range(STEPS):
            began, clock = time.process_time(), time.perf_counter()
            norms.append(take(policy, optimizer, batch, config, rate=1e-4)["grad_norm"])
            cpu.append(time.process_time() - began)
            seconds.append(time.perf_counter() - clock)
        state = [v for s in optimizer.state.values() for v in s.values()]
        kept = own_bytes(list(policy.trainable().values())) + held + own_bytes(state)
        found |= {"MiB": kept / 2**20, "cpu": min(cpu), "seconds": min(seconds)}
        return found | {"grad_norm": norms[0]}


def run(model: Path, size: int, threads: int) -> list[dict[str, float]]:
    """Measure `size` processes."""
    with tempfile.TemporaryDirectory() as folder:
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(size)]
        script = [__file__, "--model", str(model), "--out", folder, "--threads", str(threads)]
        subprocess.run([*torchrun, *script], check=True, stdout=subprocess.DEVNULL)
        return [json.loads(path.read_text()) for path in sorted(Path(folder).glob("*.json"))]


def show_overhead() -> None:
    """Print what the methods of `World` take of a step of one process."""
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "vocab_size": 64}
    model = LlamaForCausalLM(LlamaConfig(**shape, num_attention_heads=2)).eval()
    config = resolve(Config(model="m", prompts="p", reward="r:f", **SIZES))
    policy = policies.load(config, inputs=Inputs(model=model, tokenizer=TOKENIZER))
    optimizer, batch = make_optimizer(policy, config), make_training_batch(SEQUENCES)
    for rows in (batch.prompts, batch.completions):
        rows.values[:] %= shape["vocab_size"]
    spent, calls = [0], [0]

    def timed(method: Callable[..., Any]) -> Callable[..., Any]:
        def called(*given: Any, **named: Any) -> Any:
            began = time.process_time_ns()
            try:
                return method(*given, **named)
            finally:
                spent[0] += time.process_time_ns() - began
                calls[0] += 1

        return called

    for name, method in list(vars(World).items()):
        if isinstance(method, FunctionType) and not name.startswith("_"):
            setattr(World, name, timed(method))
    take(policy, optimizer, batch, config, rate=1e-4)
    spent[0] = calls[0] = 0
    began, steps = time.process_time_ns(), 50
    for _ in range(steps):
        take(policy, optimizer, batch, config, rate=1e-4)
    whole = time.process_time_ns() - began
    print(
        f"one process: {calls[0] / steps:g} calls of World a step, {spent[0] / steps / 1e3:.1f} µs"
        f" of CPU with their clock, of {whole / steps / 1e6:.2f} ms: {spent[0] / whole:.5f}"
    )


def show_worlds() -> None:
    """Print the memory and the CPU of a step of several worlds."""
    print(
        f"{'processes':>9} {'threads':>7} {'kept, MiB':>9} {'of one':>7} {'loading, MiB':>16}"
        f" {'step, CPU s':>11} {'step, s':>8}"
    )
    with tempfile.TemporaryDirectory() as folder:
        make_model().save_pretrained(folder)
        TOKENIZER.save_pretrained(folder)
        found = {case: run(Path(folder), *case) for case in [(1, 1), (1, 2), (2, 1), (4, 1)]}
    (expected,) = found[1, 1]
    for (size, threads), ranks in found.items():
        assert abs(ranks[0]["grad_norm"] / expected["grad_norm"] - 1) < 1e-4, ranks
        kept = max(rank["MiB"] for rank in ranks)
        load = " ".join(f"{rank['loading, MiB']:.0f}" for rank in ranks)
        cpu, seconds = sum(rank["cpu"] for rank in ranks), max(rank["seconds"] for rank in ranks)
        print(
            f"{size:9} {threads:7} {kept:9.0f} {kept / expected['MiB']:7.3f} {load:>16} {cpu:11.2f}"
            f" {seconds:8.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    refuse_debug_build()
    torch.set_num_threads(options.threads)
    if options.out is not None:
        found = measure(options.model)
        (options.out / f"{os.environ['RANK']}.json").write_text(json.dumps(found))
        return
    show_overhead()
    show_worlds()


if __name__ == "__main__":
    main()
    if dist.is_initialized():
        dist.destroy_process_group()
