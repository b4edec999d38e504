"""What a head's gradient loses to bfloat16, by how its residual is kept: emulated on a CPU.

    python benches/head_rounding.py [--vocabulary 32000] [--spread 4]

Logits are drawn so that every target has the probability of the row of the table; the old policy
gave it `drift` nats more. Slopes are of a size, and no powers of two. Products have bfloat16
factors and float32 sums, as on a GPU.

Three ways, each against float64 from the same logits: the softmax of bfloat16 logits, as most heads
take it; the residual `softmax - one-hot` of float32 logits rounded to bfloat16; and
`exp(logits - m)`, m from the old log-probability, rounded, with one over the sum of its row a
factor of the other matrix, and the target's own term in float32.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

PROBABILITIES = (1e-9, 1e-3, 0.1, 0.5, 0.9, 0.999)
DRIFTS = (0.0, 1e-3, 0.1, 1.0, -10.0, 10.0)


def draw(n: int, words: int, p: float, spread: float) -> tuple[Tensor, Tensor]:
    """Logits in float32, and targets of probability `p`."""
    made = torch.Generator().manual_seed(1)
    logits = spread * torch.randn(n, words, generator=made, dtype=torch.float64)
    targets = torch.randint(words, (n,), generator=made)
    rest = logits.scatter(1, targets[:, None], -torch.inf).logsumexp(1)
    at = rest + torch.logit(torch.tensor(p, dtype=torch.float64))
    return logits.scatter(1, targets[:, None], at[:, None]).float(), targets


def product(a: Tensor, b: Tensor) -> Tensor:
    return a.bfloat16().float() @ b.bfloat16().float()


def pick(values: Tensor, targets: Tensor) -> Tensor:
    return values.gather(1, targets[:, None])


def of_residual(residual: Tensor, hidden: Tensor, weight: Tensor, slope: Tensor) -> list[Tensor]:
    return [product(residual, weight) * slope, product(residual.T, hidden * slope)]


def narrow_logits(logits: Tensor, targets: Tensor, *given: Tensor) -> list[Tensor]:
    return whole(logits.bfloat16().float(), targets, *given)


def whole(logits: Tensor, targets: Tensor, _old: Tensor, *given: Tensor) -> list[Tensor]:
    logprobs = logits.log_softmax(1)
    one = torch.ones(len(targets), 1)
    residual = logprobs.exp().scatter_add(1, targets[:, None], -one)
    return [pick(logprobs, targets), *of_residual(residual, *given)]


def known(
    logits: Tensor, targets: Tensor, old: Tensor, hidden: Tensor, weight: Tensor, slope: Tensor
) -> list[Tensor]:
    at = pick(logits, targets)
    m = at - old
    e = (logits - m).exp()
    of_target = pick(e, targets)
    e = e.scatter(1, targets[:, None], torch.zeros_like(at))
    rest = e.sum(1, keepdim=True)
    total = rest + of_target
    of_hidden = product(e, weight) * (slope / total)
    of_weight = product(e.T, hidden * (slope / total))
    own = -rest / total * slope
    of_hidden += weight[targets] * own
    of_weight.index_put_((targets,), hidden * own, accumulate=True)
    return [at - m - total.log(), of_hidden, of_weight]


WAYS = {"bfloat16 logits": narrow_logits, "residual whole": whole, "target apart": known}


def row(p: float, drift: float, options: argparse.Namespace) -> str:
    n, words, width = options.tokens, options.vocabulary, options.hidden
    logits, targets = draw(n, words, p, options.spread)
    made = torch.Generator().manual_seed(2)
    hidden, weight = (torch.randn(k, width, generator=made).bfloat16().float() for k in (n, words))
    exact = logits.double().log_softmax(1)
    residual = exact.exp().scatter_add(1, targets[:, None], -torch.ones(n, 1).double())
    slope = (torch.rand(n, 1, generator=made) + 0.5) / n
    truth = [pick(exact, targets), (residual @ weight.double()) * slope.double()]
    truth.append(residual.T @ (hidden.double() * slope.double()))
    cells = []
    for way in WAYS.values():
        found = way(logits, targets, (truth[0] + drift).float(), hidden, weight, slope)
        off = float((found[0].double() - truth[0]).abs().max())
        pairs = zip(found[1:], truth[1:], strict=True)
        worst = max(float((x.double() - y).norm() / y.norm()) for x, y in pairs)
        cells.append(f"{off:.1e} | {worst:.1e}")
    return f"| {p:g} | {drift:g} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--vocabulary", type=int, default=32_000)
    parser.add_argument("--spread", type=float, default=4.0, help="deviation of the other logits")
    options = parser.parse_args()
    print(f"{options.tokens} tokens, D {options.hidden}, V {options.vocabulary}\n")
    print("| p of the target | drift, nats | " + " | ".join(f"{x}: nats | gradient" for x in WAYS))
    print("|---:" * 8 + "|")
    for p in PROBABILITIES:
        for drift in DRIFTS:
            print(row(p, drift, options), flush=True)


if __name__ == "__main__":
    main()
