"""Where tests find real data, models and golden values: a folder beside the checkout, never inside."""

import os
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("GSPO_RS_SHARED", Path(__file__).parents[2] / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of golden values, scored groups and small models; without it the test is skipped."""
    if not SHARED.is_dir():
        pytest.skip(f"no shared folder at {SHARED}; point GSPO_RS_SHARED at one")
    return SHARED


@pytest.fixture(scope="session")
def stories(shared: Path) -> Path:
    """The directory of the 260 K parameter story model."""
    return shared / "models" / "stories260K"
