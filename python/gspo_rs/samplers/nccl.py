"""NCCL by its own C interface: what sends tensors from a GPU here to those of a server.

PyTorch has no communicator with processes that it has not started itself, but brings the library.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import torch
from torch import Tensor

from gspo_rs.samplers import SamplerError

__all__ = ["Communicator"]

_UINT8, _FLOAT32, _SUM = 1, 7, 0  # ncclDataType_t, ncclRedOp_t
_ID_BYTES = 128


class _UniqueId(ctypes.Structure):
    _fields_ = (("internal", ctypes.c_byte * _ID_BYTES),)


class Communicator:
    """Rank 0 of some processes with a GPU each.

    Parameters
    ----------
    unique_id : bytes
        Of `unique_id`; the other ranks have to come with it at the same time.
    n_ranks : int
    device : torch.device
        The GPU of this one.

    Raises
    ------
    SamplerError
        If `device` is no GPU, NCCL is not there, or says no.

    Notes
    -----
    The first collective is a sum of one float32, as vLLM's workers have it.
    """

    def __init__(self, unique_id: bytes, n_ranks: int, device: torch.device) -> None:
        self.check(device)
        self._device, self._comm = device, ctypes.c_void_p()
        given = _UniqueId.from_buffer_copy(unique_id)
        with torch.cuda.device(device):
            _checked("ncclCommInitRank", ctypes.byref(self._comm), n_ranks, given, 0)
            one = torch.zeros(1, device=device)
            self._call("ncclAllReduce", one, 1, _FLOAT32, _SUM)
            torch.cuda.current_stream(device).synchronize()

    @staticmethod
    def check(device: torch.device) -> None:
        """Raise a `SamplerError` if a device is no GPU."""
        if device.type != "cuda":
            raise SamplerError(
                "sampler_weights = 'nccl' passes weights from a GPU to those of the server, and the"
                f" policy is on {device}; leave it out, and they go by a folder"
            )

    @staticmethod
    def unique_id() -> bytes:
        """Return what all ranks of a new communicator have to know."""
        found = _UniqueId()
        _checked("ncclGetUniqueId", ctypes.byref(found))
        return bytes(found)

    def broadcast(self, tensor: Tensor) -> None:
        """Send a contiguous tensor of uint8, in the order of the current stream."""
        self._call("ncclBroadcast", tensor, tensor.numel(), _UINT8, 0)

    def wait(self) -> None:
        """Wait until all is sent."""
        torch.cuda.current_stream(self._device).synchronize()

    def abort(self) -> None:
        """Give it up, with what is under way."""
        if self._comm:
            _checked("ncclCommAbort", self._comm)
            self._comm = ctypes.c_void_p()

    def _call(self, name: str, tensor: Tensor, count: int, kind: int, more: int) -> None:
        place = ctypes.c_void_p(tensor.data_ptr())
        stream = ctypes.c_void_p(torch.cuda.current_stream(self._device).cuda_stream)
        _checked(name, place, place, ctypes.c_size_t(count), kind, more, self._comm, stream)


@cache
def _library() -> Any:
    try:
        found = ctypes.CDLL("libnccl.so.2")  # the one that PyTorch has loaded
    except OSError as error:
        raise SamplerError(
            f"sampler_weights = 'nccl' needs NCCL, which PyTorch for CUDA brings: {error}"
        ) from error
    found.ncclGetErrorString.restype = ctypes.c_char_p
    # An argument of a type that is not named is an int, as most are.
    found.ncclCommInitRank.argtypes = (ctypes.c_void_p, ctypes.c_int, _UniqueId, ctypes.c_int)
    return found


def _checked(name: str, *arguments: Any) -> None:
    """Call a function of NCCL; raise a `SamplerError` if it fails."""
    library = _library()
    if status := getattr(library, name)(*arguments):
        words = library.ncclGetErrorString(status).decode()
        raise SamplerError(
            f"{name} failed: {words}. Each side needs a GPU of its own, which the other one can"
            " reach. Without sampler_weights weights go by a folder"
        )
