"""A linear head and the GSPO loss on a GPU, forward and backward, against what else there is.

    python benches/bench_linear_gpu.py [--device cpu --tokens 64 --hidden 16 --vocabulary 100]

Contenders: the plain expression, the same compiled, Liger's fused GRPO loss (`liger-kernel`), and
cut-cross-entropy (`cut-cross-entropy`), whose log-probabilities go through `gspo_loss`; those that
cannot be imported or run are told with their error. Ours come with the Triton kernel, where Triton
is installed, and with PyTorch's passes in its place. Every gradient is compared with the plain one,
of a batch small enough for it. A row tells the least time of the rounds, the peak of memory above
the inputs, and the share that three products in that time have of the matrix products measured.
"""

from __future__ import annotations

import argparse
import functools
from unittest import mock

import torch
from measurement import refuse_debug_build, turns
from torch import Tensor

from gspo_rs.logprobs import chunk
from gspo_rs.logprobs.linear import linear_logprobs
from gspo_rs.losses import gspo_loss, linear_gspo_loss

CLIP = {"clip_low": 3e-4, "clip_high": 4e-4}


def make(tokens: int, options: argparse.Namespace) -> dict[str, Tensor]:
    """Draw sequences of one length, as Liger's loss wants them."""
    torch.manual_seed(0)
    made = {"device": options.device, "dtype": getattr(torch, options.dtype)}
    batch = {
        "hidden": torch.randn(tokens, options.hidden, **made),
        "weight": torch.randn(options.vocabulary, options.hidden, **made) / options.hidden**0.5,
        "targets": torch.randint(options.vocabulary, (tokens,), device=options.device),
        "advantages": torch.randn(tokens // options.length, device=options.device),
        "lengths": torch.full((tokens // options.length,), options.length),
    }
    with torch.no_grad():
        now = linear_logprobs(batch["hidden"], batch["weight"], batch["targets"])
    return batch | {"old_logprobs": now + 1e-3 * torch.randn_like(now)}


def of_logprobs(logprobs: Tensor, batch: dict[str, Tensor]) -> Tensor:
    given = (batch["old_logprobs"], batch["advantages"], None)
    return gspo_loss(logprobs, *given, lengths=batch["lengths"], **CLIP)[0]


def every_logprob(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    return (hidden @ weight.T).float().log_softmax(-1).gather(1, targets[:, None])[:, 0]


def plain(batch: dict[str, Tensor]) -> Tensor:
    return of_logprobs(every_logprob(batch["hidden"], batch["weight"], batch["targets"]), batch)


def compiled(batch: dict[str, Tensor]) -> Tensor:
    function = torch.compile(every_logprob)
    return of_logprobs(function(batch["hidden"], batch["weight"], batch["targets"]), batch)


def liger(batch: dict[str, Tensor]) -> Tensor:
    from liger_kernel.chunked_loss import LigerFusedLinearGRPOLoss

    loss = LigerFusedLinearGRPOLoss(
        beta=0.0,
        use_ref_model=False,
        epsilon_low=CLIP["clip_low"],
        epsilon_high=CLIP["clip_high"],
        loss_type="grpo",
        importance_sampling_level="sequence",
    )
    rows = len(batch["advantages"])
    padded = {key: batch[key].view(rows, -1) for key in ("targets", "old_logprobs")}
    return loss(
        batch["hidden"].view(rows, -1, batch["hidden"].shape[1]),
        batch["weight"],
        padded["targets"],
        torch.ones_like(padded["targets"]),
        batch["advantages"],
        old_per_token_logps=padded["old_logprobs"],
    )[0]


def cut(batch: dict[str, Tensor]) -> Tensor:
    from cut_cross_entropy import linear_cross_entropy

    given = (batch["hidden"], batch["weight"], batch["targets"])
    return of_logprobs(-linear_cross_entropy(*given, reduction="none").float(), batch)


def recomputed(batch: dict[str, Tensor]) -> Tensor:
    given = (batch["hidden"], batch["weight"], batch["targets"])
    return of_logprobs(linear_logprobs(*given), batch)


def one_pass(batch: dict[str, Tensor]) -> Tensor:
    return linear_gspo_loss(**batch, **CLIP)[0]


def on_policy(batch: dict[str, Tensor]) -> Tensor:
    return linear_gspo_loss(**batch | {"old_logprobs": None}, **CLIP)[0]


def without_kernel(function):
    """Run one of ours as where Triton is not installed."""

    @functools.wraps(function)
    def run(batch: dict[str, Tensor]) -> Tensor:
        with mock.patch.object(chunk, "kernel_on", return_value=None):
            return function(batch)

    return run


CONTENDERS = {
    "plain": plain,
    "plain, compiled": compiled,
    "Liger fused GRPO": liger,
    "cut-cross-entropy": cut,
    "linear_logprobs + gspo_loss": recomputed,
    "linear_gspo_loss": one_pass,
    "linear_gspo_loss, on policy": on_policy,
    "linear_gspo_loss, PyTorch passes": without_kernel(one_pass),
}


def gradients(name: str, batch: dict[str, Tensor]) -> tuple[Tensor, ...]:
    leaves = [batch[key].detach().requires_grad_() for key in ("hidden", "weight")]
    loss = CONTENDERS[name](batch | dict(zip(("hidden", "weight"), leaves, strict=True)))
    return torch.autograd.grad(loss, leaves)


def seconds(function, options: argparse.Namespace) -> float:
    """The least time of a call, once it has been called."""

    def call() -> None:
        function()
        if options.device == "cuda":
            torch.cuda.synchronize()

    call()
    return turns({"": call}, options.rounds, turn=0)[""]


def ceiling(options: argparse.Namespace) -> float:
    """Multiply-adds a second of the product that makes the logits of 4096 tokens at most."""
    n = min(options.tokens, 4096)
    batch = make(n, options)
    spent = seconds(lambda: batch["hidden"] @ batch["weight"].T, options)
    return n * options.hidden * options.vocabulary / spent


def row(name: str, options: argparse.Namespace, most: float) -> str:
    small = make(min(options.tokens, 4 * options.length), options)
    worst = 0.0
    if name != "linear_gspo_loss, on policy":
        pairs = zip(gradients(name, small), gradients("plain", small), strict=True)
        worst = max(((a - b).float().norm() / b.float().norm()).item() for a, b in pairs)
    batch = make(options.tokens, options)
    before = memory(options, reset=True)
    spent = seconds(lambda: gradients(name, batch), options)
    peak = memory(options) - before
    work = 3 * options.tokens * options.hidden * options.vocabulary / spent / most
    return f"| {name} | {spent:.4f} | {peak / 2**20:.0f} | {work:.0%} | {worst:.1e} |"


def memory(options: argparse.Namespace, *, reset: bool = False) -> int:
    if options.device != "cuda":
        return 0
    if reset:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    return torch.cuda.max_memory_allocated()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--tokens", type=int, default=32_768)
    parser.add_argument("--length", type=int, default=1024, help="tokens of a sequence")
    parser.add_argument("--hidden", type=int, default=2048)
    parser.add_argument("--vocabulary", type=int, default=151_936)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    refuse_debug_build()
    options.length = min(options.length, options.tokens)
    options.tokens -= options.tokens % options.length
    most = ceiling(options)
    print(f"torch {torch.__version__}, {options.device}, {options.dtype}, {options.tokens} tokens")
    print(
        f"D {options.hidden}, V {options.vocabulary}; {2 * most / 1e12:.3g} TFLOP/s in products\n"
    )
    print("| | seconds | peak MiB | share of the products' rate | gradient off by |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name in CONTENDERS:
        try:
            print(row(name, options, most), flush=True)
        except (ImportError, RuntimeError, ValueError, TypeError) as error:
            print(f"| {name} | {type(error).__name__}: {str(error).splitlines()[0][:80]} |")


if __name__ == "__main__":
    main()
