"""A linear head over a chunk of tokens: logits, log-softmax, and what their gradient is made of.

Letters: ``c`` tokens make a chunk, ``D`` hidden size, ``V`` vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gspo_rs.logprobs import launch
from gspo_rs.logprobs.chunk import GPU_AT_ONCE, Scaling, chunk_rows
from gspo_rs.logprobs.products import narrow_on, product, sum_dtype
from gspo_rs.logprobs.rows import Rows, matrix

__all__ = ["Head", "pick"]

IN_CACHE = 2**17
"""Numbers whose logarithms are taken at once on a CPU: memory for more would be fresh each time."""


@dataclass(frozen=True)
class Head:
    """A head, and the buffers that hold the logits and residuals of one chunk at a time.

    Attributes
    ----------
    weight : Tensor, shape (V, D)
        In the dtype of the products' factors.
    bias : Tensor, shape (V,), or None
        Added to the logits.
    scaling : Scaling
        Done to the logits.
    logits : Tensor, shape (c, V), or of fewer rows where there is `store`
        Scratch, in float32 at least. It is written over by each chunk: fresh memory for each would
        cost more than its softmax.
    softmax : Tensor
        The same memory, except under a soft cap, whose slope needs the logits once more.
    store : Tensor, shape (c, V), or None
        For residuals narrower than the logits; others take the place of the softmax.
    kernels : Kernels or None
        Take the place of PyTorch's passes over the logits, and of its operations on rows.
    """

    weight: Tensor
    bias: Tensor | None
    scaling: Scaling
    logits: Tensor
    softmax: Tensor
    store: Tensor | None
    kernels: launch.Kernels | None

    @classmethod
    def of(
        cls, weight: Tensor, bias: Tensor | None, scaling: Scaling, rows: int, *, residual: bool
    ) -> Head:
        """Make room for chunks of `rows` tokens, with their residuals where these are wanted."""
        dtype, kernels = sum_dtype(weight), launch.kernels_on(weight.device)
        if not narrow_on(weight.device):
            weight = weight.to(dtype)  # once
        words, narrow = weight.shape[0], weight.dtype != dtype
        at_once = min(rows, GPU_AT_ONCE) if narrow else rows
        logits = matrix(at_once, words, weight, dtype)
        apart = scaling.softcap is not None and kernels is None
        return cls(
            weight,
            None if bias is None else bias.contiguous(),
            scaling,
            logits,
            softmax=matrix(at_once, words, weight, dtype) if apart else logits,
            store=matrix(rows, words, weight, weight.dtype) if narrow and residual else None,
            kernels=kernels,
        )

    @property
    def narrow(self) -> bool:
        """Whether residuals have fewer digits than sums, and lack the targets' own entries."""
        return self.weight.dtype != self.logits.dtype

    def rows(
        self,
        hidden: Tensor,
        targets: Tensor,
        into: Rows,
        *,
        residual: bool,
        near: Tensor | None = None,
    ) -> Rows:
        """Fill `into`, and return it with its residual, which is valid until the next chunk.

        Log-probabilities `near` to those asked, such as the old policy's, tell the normaliser of a
        row beforehand: with a kernel and a store each logit is read once then, and not twice.
        """
        n, kept = len(hidden), self.softmax if self.store is None else self.store
        out = into.with_residual(kept[:n]) if residual else into
        if near is not None and residual and self._takes_exponentials:
            assert self.kernels is not None
            self.kernels.exponential_rows(
                hidden.to(self.weight.dtype),
                self.weight,
                targets.contiguous(),
                out,
                near=near.to(self.logits.dtype).contiguous(),
                temperature=self.scaling.temperature,
            )
            return out
        for rows in chunk_rows(n, max(len(self.logits), 1)):
            states = hidden[rows].to(self.weight.dtype)
            logits = product(states, self.weight.T, self.logits[: len(states)])
            part, wanted = out.part(rows), targets[rows]
            if self.kernels is None:
                self._passes(logits, states, wanted, part)
                continue
            self.kernels.fused_rows(
                logits,
                wanted.contiguous(),
                part,
                bias=self.bias,
                softcap=self.scaling.softcap,
                temperature=self.scaling.temperature,
                near=None if near is None else near[rows].to(logits.dtype).contiguous(),
            )
        return out

    @property
    def _takes_exponentials(self) -> bool:
        plain = self.bias is None and self.scaling.softcap is None and self.weight.is_contiguous()
        able = self.kernels is not None and self.weight.dtype == torch.bfloat16 and self.narrow
        return launch.EXPONENTIAL_IN_PRODUCT and plain and able

    def _passes(self, logits: Tensor, hidden: Tensor, targets: Tensor, out: Rows) -> None:
        """Do with several operations of PyTorch what the kernel does with one."""
        logits, every = self._scaled(logits), self.softmax[: len(targets)]
        if logits.is_cuda:  # where looking for lost ones, as below, would keep the host waiting
            logprobs = pick(torch.log_softmax(logits, dim=1, out=every), targets)
            every.exp_()
        else:
            logprobs = pick(torch.softmax(logits, dim=1, out=every), targets)
            lost = (logprobs < torch.finfo(logprobs.dtype).tiny).nonzero()[:, 0]
            logprobs.log_()
            if len(lost) > 0:
                logprobs[lost] = self._anew(hidden[lost], targets[lost])
        out.logprobs.copy_(logprobs)
        if out.entropy is not None:
            out.entropy.copy_(_entropies(every))
        if out.residual is not None:
            self._subtract(targets, out)

    def _scaled(self, logits: Tensor) -> Tensor:
        if self.bias is not None:
            logits += self.bias
        if self.scaling.softcap is not None:
            logits.div_(self.scaling.softcap).tanh_().mul_(self.scaling.softcap)
        if self.scaling.temperature != 1.0:
            logits /= self.scaling.temperature
        return logits

    def _anew(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Return log-probabilities below those whose exponential the dtype can hold."""
        fresh = self.logits.new_empty(len(hidden), self.logits.shape[1])
        logits = self._scaled(product(hidden, self.weight.T, fresh))
        return pick(torch.log_softmax(logits, dim=1, out=logits), targets)

    def _subtract(self, targets: Tensor, out: Rows) -> None:
        """Make the residual of the softmax."""
        n = len(targets)
        residual, at = self.softmax[:n], (torch.arange(n, device=targets.device), targets)
        if out.own is None:
            residual[at] -= 1
        if self.scaling.softcap is not None:
            tanh = self.logits[:n].mul_(self.scaling.temperature / self.scaling.softcap)
            slope = tanh.square_().neg_().add_(1)
            residual *= slope
        if out.own is not None:
            assert out.residual is not None
            assert out.factors is not None
            unit = -1 / self.scaling.temperature
            torch.expm1(out.logprobs, out=out.own).mul_(unit)
            if self.scaling.softcap is not None:
                out.own.mul_(slope[at])
            residual[at] = 0.0
            out.factors.fill_(unit)
            out.residual.copy_(residual)


def _entropies(softmax: Tensor) -> Tensor:
    """Return the entropy of each row: as of `torch.special.entr`, whose logarithms are scalar."""
    rows = len(softmax) if softmax.is_cuda else IN_CACHE // softmax.shape[1]
    found = [_entropies_at_once(some) for some in torch.split(softmax, max(rows, 1))]
    return torch.cat(found) if len(found) > 1 else found[0]


def _entropies_at_once(softmax: Tensor) -> Tensor:
    logs = softmax.clamp(min=torch.finfo(softmax.dtype).tiny).log_()
    return logs.mul_(softmax).sum(dim=1).neg_()


def pick(logprobs: Tensor, targets: Tensor) -> Tensor:
    """Take the log-probability of each target, (c,), from those of the vocabulary, (c, V)."""
    return logprobs.gather(1, targets[:, None])[:, 0]
