"""A linear head under a batch of sequences, and the plain way to their GSPO loss."""

import torch

from gspo_rs.losses import gspo_loss, linear_gspo_loss

LENGTHS = [0, 3, 17, 1, 0, 9, 1, 40, 0]
WIDE = {"clip_low": 0.01, "clip_high": 0.01}


def case(lengths=LENGTHS, *, seed=9, d=6, v=23, dtype=torch.float64, moved=0.05, **scaling):
    """Hidden states, head, bias, and what the loss is of; `moved` is how far each token has."""
    draw = torch.Generator().manual_seed(seed)
    n = sum(lengths)
    heads = [torch.randn(k, d, generator=draw, dtype=torch.float64) for k in (n, v)]
    inputs = [*heads, torch.randn(v, generator=draw, dtype=torch.float64)]
    targets = torch.randint(v, (n,), generator=draw)
    batch = {
        "targets": targets,
        "advantages": torch.randn(len(lengths), generator=draw, dtype=torch.float64),
        "lengths": torch.tensor(lengths, dtype=torch.int64),
        "old_logprobs": now(*inputs, targets, **scaling)
        + moved * torch.randn(n, generator=draw, dtype=torch.float64),
    }
    return [x.to(dtype) for x in inputs], batch


def now(hidden, weight, bias, targets, temperature=1.0, softcap=None):
    logits = hidden @ weight.T if bias is None else hidden @ weight.T + bias
    logits = logits if logits.dtype == torch.float64 else logits.float()
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    return (logits / temperature).log_softmax(1).gather(1, targets[:, None])[:, 0]


def plain(hidden, weight, bias, batch, *, temperature=1.0, softcap=None, loss=gspo_loss, **clip):
    logprobs = now(hidden, weight, bias, batch["targets"], temperature, softcap)
    old = logprobs.detach() if batch["old_logprobs"] is None else batch["old_logprobs"]
    given = (batch["advantages"], None, batch.get("weights"))
    return loss(logprobs, old, *given, lengths=batch["lengths"], **clip)


def ours(hidden, weight, bias, batch, **options):
    return linear_gspo_loss(hidden, weight, bias=bias, **batch, **options)


def evaluate(function, inputs, batch, upstream=1.0, **options):
    """Loss, metrics and the gradients of the inputs."""
    leaves = [None if x is None else x.detach().clone().requires_grad_() for x in inputs]
    loss, metrics = function(*leaves, batch, **options)
    (loss * upstream).backward()
    return loss.detach(), metrics, [x.grad for x in leaves if x is not None]
