import shutil

import pytest


@pytest.fixture
def copied(letters, tmp_path):
    """The model of random letters, in a folder that a test may change."""
    return shutil.copytree(letters, tmp_path / "model")
