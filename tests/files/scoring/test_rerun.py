"""A run over a finished output: it is kept, or replaced when the new one is whole."""

import polars as pl
import pytest

import gspo_rs as gs
from gspo_rs.files.scoring.staging import Staging


@pytest.fixture
def source(tmp_path):
    """Two files of one group each, scored wide by percentile."""
    path = tmp_path / "in"
    path.mkdir()
    for name in "ab":
        frame = pl.DataFrame({"prompt_id": [name] * 3, "reward": [0.0, 1.0, 5.0]})
        frame.write_parquet(path / f"{name}.parquet")
    gs.score(path, tmp_path / "out", by="prompt_id")
    return path


def stop_before_the_end(monkeypatch, source, target, **options):
    """Interrupt a run when all files are written and none has been put in place."""

    def interrupted(place, manifest):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Staging, "commit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            gs.score(source, target, by="prompt_id", overwrite=True, **options)


@pytest.mark.parametrize("changed", [{"estimator": "zscore"}, {"layout": "narrow"}])
def test_other_options_replace_a_finished_output_once_the_new_one_is_whole(
    source, tmp_path, monkeypatch, changed
):
    before = gs.verify(tmp_path / "out")
    stop_before_the_end(monkeypatch, source, tmp_path / "out", **changed)
    assert gs.verify(tmp_path / "out") == before
    again = gs.score(source, tmp_path / "out", by="prompt_id", overwrite=True, **changed)
    assert again.skipped == 2
    after = gs.verify(tmp_path / "out").options
    assert {name: after[name] for name in changed} == changed


def test_a_changed_input_replaces_a_finished_output(source, tmp_path):
    frame = pl.DataFrame({"prompt_id": ["a"] * 4, "reward": [0.0, 1.0, 5.0, 7.0]})
    frame.write_parquet(source / "a.parquet")
    report = gs.score(source, tmp_path / "out", by="prompt_id", overwrite=True)
    assert (report.rows, report.skipped) == (7, 0)
    assert gs.scan(tmp_path / "out").collect().height == gs.verify(tmp_path / "out").rows == 7


def test_a_finished_output_that_is_asked_for_ends_what_was_unfinished(
    source, tmp_path, monkeypatch
):
    before = gs.verify(tmp_path / "out")
    stop_before_the_end(monkeypatch, source, tmp_path / "out", estimator="zscore")
    with pytest.raises(ValueError, match="estimator was 'zscore', is 'rloo'"):
        gs.score(source, tmp_path / "out", by="prompt_id", estimator="rloo", overwrite=True)
    assert gs.score(source, tmp_path / "out", by="prompt_id").skipped == 2
    assert gs.verify(tmp_path / "out") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]
