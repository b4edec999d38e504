"""The device of a process of a run."""

import torch

from gspo_rs.train import torchrun
from gspo_rs.train.model.pretrained import PolicyError

__all__ = ["device_of"]


def device_of(name: str) -> torch.device:
    """Return the device of this process, a GPU as the current one.

    Parameters
    ----------
    name : str
        "auto", "cpu", "cuda" or "cuda:<n>". Of several processes that torchrun has started, "cuda"
        is the GPU that has the number of the process on its machine.

    Raises
    ------
    PolicyError
        If there is no such device, or all processes would have one GPU.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise PolicyError(f"device {name!r}: use auto, cpu, cuda or cuda:<n>") from error
    if device.type != "cuda":
        return device
    if not torch.cuda.is_available():
        raise PolicyError(f"device {name!r}: torch finds no CUDA device")
    count = torch.cuda.device_count()
    if device.index is not None and device.index >= count:
        raise PolicyError(f"device {name!r}: torch finds {count}, the last is cuda:{count - 1}")
    if torchrun.several():
        device = _own_device(device)
    if device.index is not None:  # kernels of others ask for the current one
        torch.cuda.set_device(device)
    return device


def _own_device(device: torch.device) -> torch.device:
    """Return the GPU of this process, one of several."""
    if device.index is not None:
        raise PolicyError(
            f"device {str(device)!r}: all processes would have the one GPU; use device = 'cuda',"
            " of which each gets its own"
        )
    place, n_devices = torchrun.local_rank(), torch.cuda.device_count()
    if place >= n_devices:
        raise PolicyError(
            f"device 'cuda': process {place} of this machine, counted from 0, and torch finds"
            f" {n_devices} CUDA devices; start as many processes"
        )
    return torch.device("cuda", place)
