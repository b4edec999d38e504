"""Random generators of Python, NumPy and torch: their states saved and restored."""

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Generators:
    """States of the global random generators, which reward functions may draw from.

    Attributes
    ----------
    python : sequence
        State of Python's generator.
    tensors : dict of str to Tensor
        Of the others, ``random/...``.
    """

    python: Any
    tensors: dict[str, Tensor]

    @classmethod
    def now(cls, device: torch.device = _CPU) -> "Generators":
        """Return the current states; of all GPUs' that of `device` alone, if it is one."""
        _, keys, position, has_gauss, cached = np.random.get_state()
        states = {
            "random/torch": torch.get_rng_state(),
            "random/numpy": torch.from_numpy(np.asarray(keys, dtype=np.int64)),
            "random/numpy_position": torch.tensor([position, has_gauss]),
            "random/numpy_gauss": torch.tensor(cached, dtype=torch.float64),
        }
        if device.type == "cuda":  # asking for another's would occupy memory there
            states["random/cuda"] = torch.cuda.get_rng_state(device)
        return cls(random.getstate(), states)

    def restore(self, device: torch.device = _CPU) -> None:
        """Restore the states, that of a GPU on `device`."""
        version, internal, gauss = self.python
        random.setstate((version, tuple(internal), gauss))
        position, has_gauss = self.tensors["random/numpy_position"].tolist()
        cached = float(self.tensors["random/numpy_gauss"])
        keys = self.tensors["random/numpy"].numpy().astype(np.uint32)
        np.random.set_state(("MT19937", keys, position, has_gauss, cached))
        torch.set_rng_state(self.tensors["random/torch"])
        if device.type == "cuda" and "random/cuda" in self.tensors:
            torch.cuda.set_rng_state(self.tensors["random/cuda"], device)


def seed_generators(seed: int) -> None:
    """Seed the generators of Python, NumPy and torch.

    Parameters
    ----------
    seed : int
        Seed of the run.
    """
    random.seed(seed)
    # A reward function may draw from the global generator; it should draw the same again.
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
