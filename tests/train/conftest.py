import shutil

import pytest

from gspo_rs.train.step import update


@pytest.fixture
def copied(letters, tmp_path):
    """The model of random letters, in a folder that a test may change."""
    return shutil.copytree(letters, tmp_path / "model")


@pytest.fixture
def training_batches(monkeypatch):
    """Keep what every optimizer step learns from; the step is taken as it is."""
    kept, take = [], update.take

    def keep(policy, optimizer, training_batch, *more, **options):
        kept.append(training_batch)
        return take(policy, optimizer, training_batch, *more, **options)

    monkeypatch.setattr(update, "take", keep)
    return kept
