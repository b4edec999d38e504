"""Several processes train the policy of one."""

import json

import numpy as np
import polars as pl
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from fixtures import world_gradients
from fixtures.processes import free_port, together
from fixtures.tiny_models import LLAMA, saved, tiny
from fixtures.world_runs import CASES
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
    adapted = get_peft_model(
        AutoModelForCausalLM.from_pretrained(folder / "llama"),
        LoraConfig(r=2, lora_alpha=32, target_modules=["q_proj", "down_proj"]),
    )
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(std=0.1)
    saved(adapted, letters, folder / "adapter")
    return folder


def weights(folder):
    """The weights or adapters that a run has written."""
    (path,) = (folder / "final").glob("*.safetensors")
    return load_file(path)


def records(folder):
    """Metrics of the steps of a run, without seconds."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    timed = ("time/", "speed/")
    return [{k: v for k, v in line.items() if not k.startswith(timed)} for line in lines]


def distance(one, other):
    """The root of all squared differences of weights."""
    return sum(float((one[name] - value).square().sum()) for name, value in other.items()) ** 0.5


def apart(out, size, case):
    """What a run of several processes has otherwise than that of one."""
    ours, theirs = out / str(size) / case, out / "1" / case
    found, expected = weights(ours), weights(theirs)
    if case == "bfloat16":
        rounding = distance(expected, weights(out / "1/float32"))
        if not 0 < rounding >= 2 * distance(found, expected):
            yield f"weights by {distance(found, expected)}, where rounding moves them by {rounding}"
        return
    if found.keys() != expected.keys():
        yield "other weights"
    elif (most := max(float((found[k] - v).abs().max()) for k, v in expected.items())) > 1e-5:
        yield f"weights by {most}"
    yield from unlike_completions(ours, theirs, online="rollouts" not in CASES[case][1])
    for place, (one, other) in enumerate(zip(records(ours), records(theirs), strict=True)):
        if one.keys() != other.keys():
            yield f"other metrics in line {place}: {one.keys() ^ other.keys()}"
        for name in one.keys() & other.keys():
            # Completions that are alike have equal log-probabilities, and rounding orders them.
            rounding = 5e-2 if name.startswith("rank/") else 1e-4
            if one[name] != pytest.approx(other[name], rel=1e-3, abs=rounding, nan_ok=True):
                yield f"{name} in line {place}: {one[name]}, not {other[name]}"


def unlike_completions(ours, theirs, *, online):
    """Say which logged files of a run have other completions than those of another."""
    names = [path.name for path in sorted(theirs.glob("completions/*"))]
    if names != [path.name for path in sorted(ours.glob("completions/*"))] or bool(names) != online:
        yield "other files of completions"
        return
    columns = ["prompt", "completion", "reward", "advantage", "length"]
    for name in names:
        one, other = (
            pl.read_parquet(run / "completions" / name, columns=columns) for run in (ours, theirs)
        )
        if not one.equals(other):
            yield f"other completions in {name}"


def gradients_apart(out, size, replicas):
    """Say which gradients of several processes are others than those of one."""
    ours, theirs = (
        json.loads((out / f"{n}/kept of {copies}.json").read_text())
        for n, copies in ((size, replicas), (1, 1))
    )
    if ours != pytest.approx(theirs, abs=1e-3):
        yield f"a pass keeps {ours}, not {theirs}"
    for case in world_gradients.CASES:
        found = load_file(out / str(size) / f"{case} of {replicas}.safetensors")
        expected = load_file(out / "1" / f"{case} of 1.safetensors")
        largest = max(float(gradient.abs().max()) for gradient in expected.values())
        assert largest > 0
        for name, gradient in expected.items():
            if not torch.allclose(found[name], gradient, rtol=0, atol=1e-12 * largest):
                yield f"{case} of {replicas}: {name}"


SOME = ["gspo", "lora", "odd sizes", "reference of scored completions", "bfloat16", "float32"]
# One test, because each would start the processes anew: 1 process, then 2, 3 and 4 of them.
FEW = {1: [*SOME, "replicas"], 2: SOME, 3: ["gspo", "odd sizes"], 4: ["replicas"]}
EVERY = {size: [*CASES] for size in FEW}


@pytest.mark.parametrize(
    ("steps", "worlds"), [(3, FEW), pytest.param(6, EVERY, marks=pytest.mark.soak)]
)
def test_processes_train_the_weights_of_one_on_its_completions_with_its_metrics_and_gradients(
    models, tmp_path, steps, worlds
):
    words = [f"{size}:{free_port()}:{'|'.join(cases)}" for size, cases in worlds.items()]
    code = "from fixtures.world_runs import main; main()"
    failed = together(max(worlds), code, models, tmp_path, steps, *words)
    assert not failed, "\n".join(text[-2000:] for text in failed)
    faults = []
    for size, cases in worlds.items():
        if size > 1:
            for replicas in {1, size // 2}:
                faults += [
                    f"{size}: {fault}" for fault in gradients_apart(tmp_path, size, replicas)
                ]
            for case in cases:
                faults += [f"{size}, {case}: {fault}" for fault in apart(tmp_path, size, case)]
    assert not faults


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
