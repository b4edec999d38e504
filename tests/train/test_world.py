"""Several processes train the policy of one."""

import json

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from fixtures import world_gradients
from fixtures.processes import torchrun
from fixtures.tiny_models import LLAMA, saved, tiny
from fixtures.world_runs import CASES, run
from gspo_rs.train.world import World

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def models(letters, tmp_path_factory):
    """Models by the name that the cases give them."""
    folder = tmp_path_factory.mktemp("models")
    odd = {"hidden_size": 10, "intermediate_size": 22, "num_attention_heads": 1, "head_dim": 10}
    made = {
        "llama": tiny("llama", **LLAMA),
        "tied": tiny("llama", **LLAMA, tie_word_embeddings=True),
        "qwen3": tiny("qwen3", **LLAMA, head_dim=8, tie_word_embeddings=True),
        "gemma2": tiny("gemma2", **LLAMA, head_dim=8),
        "mixtral": tiny("mixtral"),
        "gpt2": tiny("gpt2", n_embd=10, n_head=1, n_layer=2, n_positions=64),
        "odd": tiny("llama", **{**LLAMA, **odd, "num_key_value_heads": 1}),
    }
    for name, model in made.items():
        saved(model, letters, folder / name)
    return folder


@pytest.fixture(scope="module")
def one(models, tmp_path_factory):
    """The runs of one process."""
    out = tmp_path_factory.mktemp("one")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for case in CASES:
        run(models, out, case)
    torch.set_num_threads(threads)
    return out


@pytest.fixture(scope="module", params=[2, 3])
def several(request, models, tmp_path_factory):
    """The runs of some processes together."""
    out = tmp_path_factory.mktemp(f"{request.param}")
    ended = torchrun(request.param, "-m", "fixtures.world_runs", models, out, *CASES)
    assert not ended.returncode, ended.stderr[-4000:]
    return out


def weights(folder):
    """The weights or adapters that a run has written."""
    (path,) = (folder / "final").glob("*.safetensors")
    return load_file(path)


def records(folder):
    """Metrics of the steps of a run, without seconds."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    timed = ("time/", "speed/")
    return [{k: v for k, v in line.items() if not k.startswith(timed)} for line in lines]


SAMPLED = [case for case in CASES if case != "bfloat16"]


@pytest.mark.parametrize("case", SAMPLED)
def test_processes_train_the_weights_of_one(one, several, case):
    ours, theirs = weights(several / case), weights(one / case)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=0, atol=1e-5, msg=name)


@pytest.mark.parametrize("case", SAMPLED)
def test_processes_sample_the_completions_of_one(one, several, case):
    if "rollouts" in CASES[case][1]:
        assert not (several / case / "completions").exists()
        return
    for path in sorted((one / case / "completions").iterdir()):
        columns = ["prompt", "completion", "reward", "advantage", "length"]
        expected = pl.read_parquet(path, columns=columns)
        found = pl.read_parquet(several / case / "completions" / path.name, columns=columns)
        assert found.equals(expected)


@pytest.mark.parametrize("case", SAMPLED)
def test_processes_log_the_metrics_of_one(one, several, case):
    for ours, theirs in zip(records(several / case), records(one / case), strict=True):
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            # Completions that are alike have equal log-probabilities, and rounding orders them.
            rounding = 5e-2 if name.startswith("rank/") else 1e-4
            assert ours[name] == pytest.approx(value, rel=1e-3, abs=rounding), name


def test_processes_have_the_gradient_of_one_in_bfloat16_to_its_rounding(one, several):
    ours, theirs = (records(out / "bfloat16")[-1] for out in (several, one))
    for name in ("loss", "grad_norm"):
        assert ours[name] == pytest.approx(theirs[name], rel=5e-2, abs=1e-3), name


@pytest.mark.parametrize("size", [2, 3, 4])
def test_the_gradient_of_a_step_that_no_number_divides_is_that_of_one_process(
    models, tmp_path, size
):
    expected, found = tmp_path / "one", tmp_path / "several"
    expected.mkdir()
    found.mkdir()
    world_gradients.write(models, expected)
    ended = torchrun(size, "-m", "fixtures.world_gradients", models, found)
    assert not ended.returncode, ended.stderr[-4000:]
    for case in world_gradients.CASES:
        ours, theirs = (load_file(out / f"{case}.safetensors") for out in (found, expected))
        largest = max(float(gradient.abs().max()) for gradient in theirs.values())
        assert largest > 0
        for name, gradient in theirs.items():
            torch.testing.assert_close(ours[name], gradient, rtol=0, atol=1e-12 * largest)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("n", [0, 1, 4, 7, 16])
def test_every_part_of_a_step_counts_once_and_each_process_has_as_many(size, n):
    parts = [np.array([place]) for place in range(n)]
    dealt = [World(rank, size).dealt(parts, costs=list(range(n))) for rank in range(size)]
    assert len({len(own) for own in dealt}) == 1
    counted = [int(part[0]) for own in dealt for part, counts in own if counts]
    assert sorted(counted) == list(range(n))


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_shares_follow_one_another_and_hold_everything(size):
    shares = [World(rank, size).share(11) for rank in range(size)]
    assert [place for share in shares for place in share] == list(range(11))
