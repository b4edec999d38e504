"""The roundings of a GPU on a CPU: factors in bfloat16 or float16, their products in float32."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

import torch
from torch import Tensor

from gspo_rs.logprobs import head, launch

_mm, _addmm = torch.mm, torch.addmm


def _wide_mm(a: Tensor, b: Tensor, *, out: Tensor, out_dtype: torch.dtype | None = None) -> Tensor:
    if out_dtype is None:
        return _mm(a, b, out=out)
    assert a.dtype == b.dtype
    assert out.dtype == out_dtype
    return _mm(a.to(out_dtype), b.to(out_dtype), out=out)


def _wide_addmm(
    total: Tensor, a: Tensor, b: Tensor, *, out: Tensor, out_dtype: torch.dtype
) -> Tensor:
    assert a.dtype == b.dtype
    assert total.dtype == out.dtype == out_dtype
    return _addmm(total, a.to(out_dtype), b.to(out_dtype), out=out)


@contextmanager
def emulated(kernels: launch.Kernels | None = None) -> Iterator[None]:
    """Let heads on the CPU keep their low precision, as on a GPU.

    Parameters
    ----------
    kernels : Kernels, optional
        What takes the place of PyTorch's operations on rows; by default nothing does.
    """
    with ExitStack() as patches:
        for where, name, value in (
            (head, "narrow_on", lambda _: True),
            (launch, "kernels_on", lambda _: kernels),
            (torch, "mm", _wide_mm),
            (torch, "addmm", _wide_addmm),
        ):
            patches.enter_context(mock.patch.object(where, name, value))
        yield
