"""A file of reward functions, for the tests of grading."""

import pytest

from fixtures.graded_rows import FUNCTIONS


@pytest.fixture
def spec(tmp_path):
    """Return how functions of the file are called."""
    (tmp_path / "given.py").write_text(FUNCTIONS)
    return lambda name: f"{tmp_path / 'given.py'}:{name}"
