"""Where tests find real data and models: a folder beside the checkout."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from fixtures.places import ROOT

# Two workers of pytest with two threads each would wait for one another on two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("default", deadline=None)
settings.register_profile("soak", deadline=None, max_examples=5_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

# A plugin of vLLM, which is elsewhere.
collect_ignore = ["fixtures/vllm_twin.py"]

SHARED = Path(os.environ.get("GSPO_RS_SHARED", ROOT.parent / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of scored groups and small models; a skip without it."""
    if not SHARED.is_dir():
        pytest.skip(f"no shared folder at {SHARED}; point GSPO_RS_SHARED at one")
    return SHARED


@pytest.fixture(scope="session")
def stories(shared: Path) -> Path:
    """The directory of the 260 K parameter story model."""
    return shared / "models" / "stories260K"


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Answer Ctrl-C, which jobs that a script started in the background ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Compute as processes with one thread do: more of them order sums otherwise.

    It also spares models this small the waiting of threads for one another.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory small enough to train in a blink: it writes random letters.

    Its tokenizer has an end token and no pad token.
    """
    from fixtures.tiny_models import write_letters

    return write_letters(tmp_path_factory.mktemp("letters"))
