"""Checkpoints: whole or absent, read back exactly, and named when they are broken."""

import random
import time

import numpy as np
import pytest
import torch

from fixtures.forked import forked
from gspo_rs.files import atomic
from gspo_rs.train import checkpoint
from gspo_rs.train.config.config import Config, resolve
from gspo_rs.train.model import sharded

CONFIG = resolve(Config(model="m", rollouts="r.parquet", by=("a", "b"), save_total_limit=2))


def save_model(folder):
    folder.mkdir()
    (folder / "config.json").write_text("{}")


def write(folder, step=3, tensors=None):
    return checkpoint.write(
        folder, save_model, tensors or {}, step=step, batches=step * 2, config=CONFIG
    )


def test_what_is_written_is_read_back(tmp_path):
    path = write(tmp_path, tensors={"x": torch.arange(3)})
    found = checkpoint.read(path)
    assert (found.step, found.batches, found.config) == (3, 6, CONFIG)
    assert torch.equal(found.tensors["x"], torch.arange(3))


def test_the_random_generators_go_on_where_the_checkpoint_found_them(tmp_path):
    np.random.normal()  # leaves a second gaussian cached
    path = write(tmp_path)
    draws = [random.random(), np.random.normal(), np.random.rand(), torch.rand(()).item()]
    checkpoint.read(path).generators.restore()
    assert draws == [random.random(), np.random.normal(), np.random.rand(), torch.rand(()).item()]


def test_an_optimizer_goes_on_where_the_checkpoint_found_it(tmp_path):
    def make():
        torch.manual_seed(0)
        layer = torch.nn.Linear(3, 2)
        return layer, torch.optim.AdamW(layer.parameters(), lr=0.1, fused=True)

    def learn(layer, optimizer):
        layer(torch.ones(1, 3)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    names = ["weight", "bias"]
    layer, optimizer = make()
    learn(layer, optimizer)
    path = write(tmp_path, tensors=checkpoint.optimizer_tensors(optimizer, names))
    again, restored = make()
    again.load_state_dict(layer.state_dict())
    checkpoint.restore_optimizer(restored, names, checkpoint.read(path).tensors)
    learn(layer, optimizer)
    learn(again, restored)
    assert torch.equal(layer.weight, again.weight)
    with pytest.raises(checkpoint.CheckpointError, match="optimizer state of bias"):
        checkpoint.restore_optimizer(restored, ["weight", "other"], checkpoint.read(path).tensors)


def test_an_optimizer_that_counts_in_integers_goes_on_counting(tmp_path):
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight])
    optimizer.state[weight].update(step=7, codes=torch.tensor([1, 2], dtype=torch.uint8))
    path = write(tmp_path, tensors=checkpoint.optimizer_tensors(optimizer, ["weight"]))
    again = torch.optim.SGD([weight])
    checkpoint.restore_optimizer(again, ["weight"], checkpoint.read(path).tensors)
    state = again.state[weight]
    assert (state["step"], type(state["step"])) == (7, int)
    assert torch.equal(state["codes"], torch.tensor([1, 2], dtype=torch.uint8))


def test_an_optimizers_tensors_are_gathered_and_written_in_parts_and_read_back(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(sharded, "PART", 24)
    given = {f"optimizer/mean/{n}": torch.arange(n, dtype=torch.float32) for n in (3, 2, 1, 9, 0)}
    parts = list(sharded.collected_in_parts(given, keep=True))
    assert [[len(value) for value in part.values()] for part in parts] == [[3, 2, 1], [9], [0]]
    path = checkpoint.write(
        tmp_path, save_model, {}, optimizer=iter(parts), step=1, batches=1, config=CONFIG
    )
    found = checkpoint.read(path).tensors
    assert all(torch.equal(found[name], value) for name, value in given.items())
    (path / "optimizer-1.safetensors").unlink()
    with pytest.raises(checkpoint.CheckpointError, match=r"optimizer-1\.safetensors is missing"):
        checkpoint.read(path)


def test_only_the_newest_checkpoints_are_kept_in_the_order_of_their_steps(tmp_path):
    for step in (5, 9, 10, 100):
        write(tmp_path, step)
    assert [path.name for path in checkpoint.steps(tmp_path)] == ["checkpoint-10", "checkpoint-100"]


@pytest.mark.parametrize("file", ["state.safetensors", "model/config.json"])
def test_a_file_that_was_cut_short_or_lost_is_named(tmp_path, file):
    path = write(tmp_path, tensors={"x": torch.ones(4)})
    with (path / file).open("r+b") as handle:
        handle.truncate(1)
    with pytest.raises(checkpoint.CheckpointError, match=rf"{file} is changed or cut short"):
        checkpoint.read(path)
    (path / file).unlink()
    with pytest.raises(checkpoint.CheckpointError, match=rf"{file} is missing"):
        checkpoint.read(path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 99}'])
def test_a_folder_that_is_no_checkpoint_is_named(tmp_path, text):
    path = tmp_path / "checkpoint-1"
    path.mkdir()
    (path / "state.json").write_text(text)
    with pytest.raises(checkpoint.CheckpointError, match="checkpoint-1 is not a checkpoint"):
        checkpoint.read(path)


def test_a_failure_on_the_way_leaves_what_was_there(tmp_path):
    target = tmp_path / "out"
    with atomic.directory(target) as partial:
        (partial / "a").write_text("old")

    def fail():
        with atomic.directory(target) as partial:
            (partial / "a").write_text("new")
            raise OSError("disk full")

    with pytest.raises(OSError, match="full"):
        fail()
    assert (target / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


WRITER = """
import sys, torch
from pathlib import Path
from gspo_rs.train import checkpoint
from gspo_rs.train.config.config import Config, resolve
config = resolve(Config(model="m", rollouts="r", save_total_limit=2))
def save(folder):
    folder.mkdir()
    for i in range(20):
        (folder / f"{i}.bin").write_bytes(bytes(20_000))
for step in range(1, 100_000):
    tensors = {"x": torch.full((1000,), step)}
    checkpoint.write(Path(sys.argv[1]), save, tensors, step=step, batches=0, config=config)
"""


@pytest.mark.slow
@pytest.mark.parametrize("wait", [0.05, 0.13, 0.21])
def test_a_kill_at_any_moment_leaves_only_whole_checkpoints(tmp_path, wait):
    process = forked(tmp_path, code=WRITER)
    deadline = time.monotonic() + 600
    while not checkpoint.steps(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(wait)
    process.kill()
    process.wait()
    newest = checkpoint.steps(tmp_path)[-1]
    found = checkpoint.read(newest)
    assert found.tensors["x"].tolist() == [found.step] * 1000
    atomic.sweep(tmp_path)
    assert all(path.name.startswith("checkpoint-") for path in tmp_path.iterdir())


def test_no_change_of_a_byte_of_its_state_goes_unseen(tmp_path):
    path = write(tmp_path, tensors={"x": torch.ones(4)})
    whole = (path / "state.json").read_bytes()
    draw = np.random.default_rng(0)
    for place in draw.choice(len(whole), 300, replace=False):
        for other in (whole[place] ^ 1, ord("7")):
            changed = whole[:place] + bytes([other]) + whole[place + 1 :]
            if changed != whole:
                (path / "state.json").write_bytes(changed)
                with pytest.raises(checkpoint.CheckpointError, match="is not a checkpoint"):
                    checkpoint.read(path)
    (path / "state.json").write_bytes(whole)
    assert checkpoint.read(path).step == 3
