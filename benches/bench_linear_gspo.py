"""A linear head and the GSPO loss, forward and backward: one pass against four other ways.

    python benches/bench_linear_gspo.py [--vocabulary 32000] [--rounds 3]

Contenders: the plain PyTorch expression; TRL's `selective_log_softmax`; our `linear_logprobs`,
which computes the logits again backward; and `linear_gspo_loss`. Loss and gradients are checked
equal first. Then each contender takes turns, every time in a process of its own, whose peak memory
is what Linux counts above the inputs; the least of its times is told, of the wall and of the CPU.
"""

from __future__ import annotations

import argparse
import platform
import sys

import torch
from measurement import answer, ask, refuse_debug_build, spending
from results import record

from gspo_rs.logprobs.linear import linear_logprobs
from gspo_rs.losses import gspo_loss, linear_gspo_loss


def make(options: argparse.Namespace) -> dict[str, torch.Tensor]:
    """Draw a batch whose policy has moved a little: some sequences are clipped, some are not."""
    torch.manual_seed(0)
    n, d, v = options.tokens, options.hidden, options.vocabulary
    lengths = []
    while sum(lengths) < n:
        lengths.append(min(int(torch.randint(1, options.longest, ())), n - sum(lengths)))
    batch = {
        "hidden": torch.randn(n, d),
        "weight": torch.randn(v, d) / d**0.5,
        "targets": torch.randint(v, (n,)),
        "advantages": torch.randn(len(lengths)),
        "lengths": torch.tensor(lengths),
    }
    with torch.no_grad():
        now = linear_logprobs(batch["hidden"], batch["weight"], batch["targets"])
    return batch | {"old_logprobs": now + 3e-3 * torch.randn(n)}


def from_logprobs(logprobs, batch):
    return gspo_loss(
        logprobs, batch["old_logprobs"], batch["advantages"], None, lengths=batch["lengths"]
    )[0]


def plain(batch):
    every = (batch["hidden"] @ batch["weight"].T).log_softmax(-1)
    return from_logprobs(every.gather(1, batch["targets"][:, None])[:, 0], batch)


def trl(batch):
    from trl.trainer.utils import selective_log_softmax

    logits = batch["hidden"] @ batch["weight"].T
    return from_logprobs(selective_log_softmax(logits, batch["targets"]), batch)


def recomputed(batch):
    return from_logprobs(linear_logprobs(batch["hidden"], batch["weight"], batch["targets"]), batch)


def one_pass(batch):
    return linear_gspo_loss(**batch)[0]


def on_policy(batch):
    return linear_gspo_loss(**batch | {"old_logprobs": None})[0]


CONTENDERS = {
    "plain PyTorch": plain,
    "TRL selective_log_softmax": trl,
    "linear_logprobs + gspo_loss": recomputed,
    "linear_gspo_loss": one_pass,
    "linear_gspo_loss, on policy": on_policy,
}


OURS = [name for name in CONTENDERS if name.startswith("linear_")]


def evaluate(name, batch):
    """The loss and its gradients for hidden states and head."""
    leaves = [batch[key].detach().requires_grad_() for key in ("hidden", "weight")]
    loss = CONTENDERS[name](batch | dict(zip(("hidden", "weight"), leaves, strict=True)))
    return [loss.detach(), *torch.autograd.grad(loss, leaves)]


def measure(name, options):
    """Find time and peak memory of one contender, in this process."""
    batch = make(options)
    small = argparse.Namespace(tokens=8, hidden=8, vocabulary=16, longest=8)
    evaluate(name, make(small))  # loads what is loaded lazily
    with spending() as spent:
        evaluate(name, batch)
    answer(spent)


def check(options):
    batch = make(options)
    expected = evaluate("plain PyTorch", batch)
    for name in CONTENDERS:
        if name != "linear_gspo_loss, on policy":
            found = evaluate(name, batch)
            for one, other in zip(found, expected, strict=True):
                torch.testing.assert_close(one, other, rtol=0, atol=1e-4 * other.abs().max())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--vocabulary", type=int, default=32_000)
    parser.add_argument("--longest", type=int, default=1000, help="tokens of a sequence")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--run", choices=CONTENDERS)
    options = parser.parse_args()
    refuse_debug_build()
    if options.run:
        measure(options.run, options)
        return
    check(argparse.Namespace(tokens=500, hidden=64, vocabulary=3000, longest=300))
    found = {name: [] for name in CONTENDERS}
    for _ in range(options.rounds):
        for name, figures in found.items():
            figures.append(ask(__file__, *sys.argv[1:], "--run", name))
    print(f"torch {torch.__version__}, {platform.machine()}, {torch.get_num_threads()} threads")
    print(f"{options.tokens} tokens, D {options.hidden}, V {options.vocabulary}, float32\n")
    print("| | wall s | ratio | CPU s | ratio | peak MiB | ratio |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    best = {
        name: {key: min(one[key] for one in figures) for key in ("wall", "cpu", "added")}
        for name, figures in found.items()
    }
    seconds = {name: figures["wall"] for name, figures in best.items()}
    record(f"head and loss: V {options.vocabulary}", seconds, ours=OURS, rows=options.tokens)
    for name, figures in best.items():
        cells = [
            f"{figures[key]:.2f} | {figures[key] / best['plain PyTorch'][key]:.2f}"
            for key in ("wall", "cpu", "added")
        ]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
