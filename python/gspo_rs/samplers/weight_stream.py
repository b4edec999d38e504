"""Weights from the GPU of a policy to those of a vLLM server, by its engine for NCCL.

The server is told over HTTP which tensors come, and receives them at the same time. vLLM's own
client for that is in vLLM, which is not imported: a communicator that is named by its unique id
needs nothing but NCCL.
"""

from __future__ import annotations

import threading
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from gspo_rs.samplers import SamplerError
from gspo_rs.samplers.calls import PATIENCE
from gspo_rs.samplers.client import Client, answered
from gspo_rs.samplers.nccl import Communicator

__all__ = ["NEEDED", "WeightStream", "chunks"]

NEEDED = """--weight-transfer-config '{"backend": "nccl"}'"""
"""What a server needs to be started with."""
BYTES = 1 << 28
"""Of a chunk, about: it ends with the tensor that passes them."""


class WeightStream:
    """Sends weights to a server.

    Parameters
    ----------
    client : Client
        Asks the server, each call once: a meeting that has failed cannot be repeated.
    device : torch.device
        The GPU that sends.

    Raises
    ------
    SamplerError
        If that is none; if the server has none, or was not started for it.

    Notes
    -----
    Both sides meet at one call of NCCL, and wait for each other in it. So a call here is made in a
    thread of its own, and given up when the server says that it does not come.
    """

    def __init__(self, client: Client, device: torch.device) -> None:
        Communicator.check(device)
        self._client, self._device = client, device
        self._stream = torch.cuda.current_stream(device) if device.type == "cuda" else None
        client.post("/shutdown_weight_transfer_engine")  # of a run before that was killed
        ranks = 1 + int(client.get("/get_world_size")["world_size"])
        name = Communicator.unique_id()
        said = {"nccl_unique_id_b64": b64encode(name).decode(), "rank_offset": 1}
        said |= {"world_size": ranks, "packed": True, "packed_buffer_size_bytes": BYTES}
        self._group: Communicator = self._met(
            client.begin("POST", "/init_weight_transfer_engine", {"init_info": said}),
            lambda: Communicator(name, ranks, device),
        )

    def send(self, weights: dict[str, Tensor], label: str) -> None:
        """Give a server that is paused these weights, and name their version.

        Parameters
        ----------
        weights : dict of str to Tensor
            By the names of a checkpoint.
        label : str

        Raises
        ------
        SamplerError
            If the server does not take them. Nothing can be sent any more.
        """
        said = {
            "names": list(weights),
            "dtype_names": [str(one.dtype).removeprefix("torch.") for one in weights.values()],
            "shapes": [list(one.shape) for one in weights.values()],
        }
        self._client.post("/start_weight_update")
        call = self._client.begin("POST", "/update_weights", {"update_info": said})
        try:
            self._met(call, lambda: self._sent(weights))
        except BaseException:
            self._group.abort()
            raise
        self._client.post("/finish_weight_update", {"weight_version": label})

    def close(self) -> None:
        """Part from the server, which is asked to do so, too."""
        call = self._client.begin("POST", "/shutdown_weight_transfer_engine")
        self._group.abort()
        wait([call], timeout=PATIENCE)  # one that is gone has parted, too

    def _sent(self, weights: dict[str, Tensor]) -> None:
        for chunk in chunks(weights.values(), BYTES):
            bytes_of = [one.detach().to(self._device).contiguous().view(-1) for one in chunk]
            self._group.broadcast(torch.cat([one.view(torch.uint8) for one in bytes_of]))
        self._group.wait()

    def _met(self, call: Future[Any], ours: Callable[[], Any]) -> Any:
        """Do our side of a meeting, and return what it gives, once the server has done its own.

        Raises
        ------
        SamplerError
            If either side fails.
        """
        work: Future[Any] = Future()

        def run() -> None:
            stream = nullcontext() if self._stream is None else torch.cuda.stream(self._stream)
            try:
                with stream:
                    work.set_result(ours())
            except BaseException as error:  # noqa: BLE001 -- raised where it is waited for
                work.set_exception(error)

        # One that waits for a server that does not come must not keep the process from its end.
        threading.Thread(target=run, name="gspo_rs-weights", daemon=True).start()
        done, _ = wait((call, work), return_when=FIRST_COMPLETED)
        if work in done:
            work.result()
        try:
            answered(call)
        except SamplerError as error:
            raise SamplerError(
                f"{error}; the server needs a GPU of its own and {NEEDED}. Without sampler_weights"
                " weights go by a folder"
            ) from error
        return work.result()


def chunks(tensors: Iterable[Tensor], most: int) -> Iterator[list[Tensor]]:
    """Cut tensors into those that are sent at once, where the server does.

    A chunk ends with the tensor by which it has more than `most` bytes.

    Examples
    --------
    >>> [len(chunk) for chunk in chunks([torch.zeros(4)] * 5, 16)]
    [2, 2, 1]
    """
    chunk: list[Tensor] = []
    for one in tensors:
        chunk.append(one)
        if sum(each.nbytes for each in chunk) > most:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
