"""Losses and head log-probabilities against the plain PyTorch expressions: time, peak memory.

Run as ``python benches/bench_losses.py``. Results are checked equal before anything is timed; each
figure comes from a process of its own, whose peak is what Linux counts above the inputs.
"""

import platform
import sys

import torch
from measurement import answer, ask, refuse_debug_build, spending, turns
from results import record

from gspo_rs.logprobs.linear import linear_logprobs
from gspo_rs.losses import grpo_loss, gspo_loss

SEQUENCES, TOKENS = 64, 1024
HEADS = {"small head": (3072, 64, 512), "large head": (4096, 512, 32_000)}  # n, D, V


def batch():
    torch.manual_seed(0)
    old = -torch.rand(SEQUENCES, TOKENS)
    new = old + 1e-3 * torch.randn(SEQUENCES, TOKENS)
    mask = torch.arange(TOKENS) < torch.randint(1, TOKENS + 1, (SEQUENCES, 1))
    return new, old, torch.randn(SEQUENCES), mask


def head(name):
    n, d, v = HEADS[name]
    torch.manual_seed(0)
    return torch.randn(n, d), torch.randn(v, d) / d**0.5, torch.randint(v, (n,))


def plain_gspo(new, old, advantages, mask):
    ratio = (((new - old) * mask).sum(1) / mask.sum(1)).exp()
    clipped = ratio.clamp(1 - 3e-4, 1 + 4e-4)
    return -torch.minimum(ratio * advantages, clipped * advantages).mean()


def plain_grpo(new, old, advantages, mask):
    ratio, advantages = ((new - old) * mask).exp(), advantages[:, None]
    clipped = ratio.clamp(0.8, 1.2)
    terms = -torch.minimum(ratio * advantages, clipped * advantages) * mask
    return (terms.sum(1) / mask.sum(1)).mean()


def plain_head(hidden, weight, targets):
    return (hidden @ weight.T).log_softmax(-1).gather(1, targets[:, None]).mean()


def our_head(hidden, weight, targets):
    return linear_logprobs(hidden, weight, targets).mean()


# What is measured: its inputs, how many of them take a gradient, our expression, the plain one.
CASES = {
    "gspo_loss": (batch, 1, lambda *x: gspo_loss(*x)[0], plain_gspo),
    "gspo_loss, metrics=False": (
        batch,
        1,
        lambda *x: gspo_loss(*x, metrics=False)[0],
        plain_gspo,
    ),
    "grpo_loss": (batch, 1, lambda *x: grpo_loss(*x)[0], plain_grpo),
    "grpo_loss, metrics=False": (
        batch,
        1,
        lambda *x: grpo_loss(*x, metrics=False)[0],
        plain_grpo,
    ),
} | {name: (lambda name=name: head(name), 2, our_head, plain_head) for name in HEADS}


ROWS = dict.fromkeys(CASES, SEQUENCES * TOKENS) | {name: head[0] for name, head in HEADS.items()}


def evaluate(function, inputs, leaves):
    """The value and the gradients of `function`, forward and backward."""
    inputs = [x.detach().requires_grad_(place < leaves) for place, x in enumerate(inputs)]
    value = function(*inputs)
    return [value.detach(), *torch.autograd.grad(value, inputs[:leaves])]


def measure(case, side):
    """Find the least time and the peak memory of one side of a case, in this process."""
    make, leaves, *functions = CASES[case]
    function, inputs = functions[side], make()
    rows = inputs[0].shape[0]  # a few of them load what is loaded lazily
    evaluate(function, [x[:8] if x.shape[0] == rows else x for x in inputs], leaves)
    with spending() as spent:
        least = turns({"": lambda: evaluate(function, inputs, leaves)}, 2, turn=0.5)
    answer({"seconds": least[""], "mebibytes": spent.added})


def check(case):
    make, leaves, ours, plain = CASES[case]
    inputs = make()
    found, expected = (evaluate(f, inputs, leaves) for f in (ours, plain))
    torch.testing.assert_close(found, expected, rtol=2e-4, atol=1e-7)


def main():
    refuse_debug_build()
    print(f"torch {torch.__version__}, {platform.machine()}, {torch.get_num_threads()} threads\n")
    print("| forward and backward | ours ms | plain ms | ratio | ours MiB | plain MiB |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for case in CASES:
        check(case)
        ours, plain = ask(__file__, case, "0"), ask(__file__, case, "1")
        seconds = {"gspo_rs": ours["seconds"], "plain PyTorch": plain["seconds"]}
        record(f"losses: {case}", seconds, ours=["gspo_rs"], rows=ROWS[case])
        print(
            f"| {case} | {ours['seconds'] * 1e3:.2f} | {plain['seconds'] * 1e3:.2f} "
            f"| {ours['seconds'] / plain['seconds']:.2f} "
            f"| {ours['mebibytes']:.0f} | {plain['mebibytes']:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    measure(sys.argv[1], int(sys.argv[2])) if len(sys.argv) > 1 else main()
