"""The script for a GPU, rehearsed without one: nothing that fails may cost what else is found."""

import json
import os
import subprocess
import sys

import pytest
import torch

from fixtures.places import ROOT

BENCHES = ROOT / "benches"
CPU = torch.device("cpu")


@pytest.fixture
def benches(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHES))


def run(*arguments, code=None):
    script = [str(BENCHES / "gpu_once.py")] if code is None else ["-c", code]
    return subprocess.run(
        [sys.executable, *script, "--device", "cpu", *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT / 'python'}:{BENCHES}"},
        capture_output=True,
        text=True,
        check=False,
    )


def rows_of(folder):
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_rehearsal_on_a_cpu_ends_with_every_file_and_a_row_of_every_stage(tmp_path):
    sizes = ("--tokens", 64, "--length", 16, "--shape", 16, 300, "--rounds", 2)
    rivals = ("linear_gspo_loss", "plain, in pieces", "TRL chunked", "QuACK scaled-exp")
    folder = tmp_path / "gpu"
    done = run("--output", folder, *sizes, "--rivals", *rivals, "--seconds", 1500)
    assert done.returncode == 0, done.stderr
    files = {"rows.jsonl", "table.md", "tests.txt", "memcheck.txt", "profile.txt", "log.txt"}
    assert {path.name for path in folder.iterdir()} == files
    assert "aten::mm" in (folder / "profile.txt").read_text()
    assert "skipped" in (folder / "tests.txt").read_text()
    rows = rows_of(folder)
    stages = ("smoke", "tests", "ceilings", "sweep", "step", "rivals", "once")
    ended = {row["stage"] for row in rows if row["state"] == "done"}
    assert ended == {*stages}, [row for row in rows if row["state"] != "done"]
    assert {row["name"] for row in rows if row["state"] == "not installed"} >= {"memcheck"}
    small = {row["name"]: row["off_by"] for row in rows if "off_by" in row}
    assert len(small) == 10
    assert all(off < (1e-12 if "float64" in name else 0.02) for name, off in small.items())
    heads = [row for row in rows if row["stage"] == "rivals" and row["state"] == "done"]
    assert {row["name"] for row in heads} == {*rivals[:3]}
    assert all(row["hidden_off_by"] < 0.02 for row in heads if row["name"] == rivals[0])
    (trained,) = [row for row in rows if row["name"] == "train"]
    assert {"time/generate", "time/prepare", "time/backward", "time/optimizer"} <= {*trained}
    ours, plain = (row["gradient"] for row in rows if "gradient" in row)
    assert ours == pytest.approx(plain, rel=1e-4)
    table = (folder / "table.md").read_text()
    assert done.stdout.strip() == table.strip()
    for title in ("Ceilings", "Chunks of", "Heads, forward", "A training step", "Not run"):
        assert f"## {title}" in table


STAGES = """
import itertools, os, types, time, gpu_once

def raises(options):
    yield {"name": "first"}
    raise ValueError("no such | kernel")

def dies(options):
    yield {"name": "second"}
    os.abort()

def hangs(options):
    time.sleep(600)

def after(options):
    yield {"name": "after"}

# The one that hangs begins half a second before the time is over.
clock = itertools.chain([0.0] * 4, [599.5], itertools.repeat(601.0))
gpu_once.time, gpu_once.LEFT = types.SimpleNamespace(monotonic=lambda: next(clock)), 0.0
kinds = {"smoke": raises, "tests": dies, "memcheck": after, "sweep": hangs, "step": after}
gpu_once.STAGES = {name: (stage, 60) for name, stage in kinds.items()}
gpu_once.main()
"""


@pytest.mark.slow
def test_a_stage_that_ends_badly_keeps_its_rows_and_stops_no_other_and_one_that_hangs_is_stopped(
    tmp_path,
):
    folder = tmp_path / "gpu"
    done = run("--output", folder, "--seconds", 600, code=STAGES)
    assert done.returncode == 0, done.stderr
    rows = rows_of(folder)
    assert [(row["stage"], row["name"], row["state"]) for row in rows] == [
        ("smoke", "first", "done"),
        ("smoke", "smoke", "failed"),
        ("tests", "second", "done"),
        ("tests", "tests", "failed"),
        ("memcheck", "after", "done"),
        ("sweep", "sweep", "stopped"),
        ("step", "step", "no time"),
        ("once", "seconds", "done"),
    ]
    assert "no such | kernel" in rows[1]["says"]
    assert "exit -6" in rows[3]["says"]


@pytest.mark.usefixtures("benches")
def test_a_run_does_not_write_over_what_another_has_found(tmp_path, monkeypatch):
    import gpu_once

    (tmp_path / "rows.jsonl").write_text("{}\n")
    monkeypatch.setattr(sys, "argv", ["gpu_once", "--device", "cpu", "--output", str(tmp_path)])
    with pytest.raises(FileExistsError):
        gpu_once.main()
    assert (tmp_path / "rows.jsonl").read_text() == "{}\n"


@pytest.mark.usefixtures("benches")
def test_heads_that_run_here_give_the_gradients_of_the_plain_expression():
    import gpu_cases
    import gpu_rivals

    sizes = gpu_cases.Sizes(40, 8, 6, 31)
    ours = [one for one in gpu_rivals.CONTENDERS if one.module is None and "compil" not in one.name]
    assert len(ours) == 6
    for data in gpu_cases.DATA:
        for who in ours:
            given = gpu_cases.batch(sizes, data, who.kind, CPU, torch.float64)
            exact = gpu_cases.exact_gradients(given, who.kind)
            for mine, theirs in zip(who.gradients(given), exact, strict=True):
                assert gpu_cases.off_by(mine, theirs) < 1e-6, (who.name, data)


@pytest.mark.usefixtures("benches")
@pytest.mark.parametrize("kind", ["off policy", "on policy", "cross-entropy"])
def test_the_reference_is_the_gradient_of_the_loss_written_down(kind):
    import gpu_cases

    given = gpu_cases.batch(gpu_cases.Sizes(6, 3, 4, 5), "peaked", kind, CPU, torch.float64)
    hidden, weight = (x.clone().requires_grad_() for x in (given.hidden, given.weight))
    every = (hidden @ weight.T).softmax(-1).log()
    rows = every[torch.arange(6), given.targets].view(2, 3)
    if kind == "cross-entropy":
        loss = -rows.mean()
    else:
        old = rows.detach() if given.old_logprobs is None else given.old_logprobs.view(2, 3)
        ratio = (rows - old).mean(1).exp()
        assert bool((ratio.log().abs() < 3e-4).all())  # no clip acts
        loss = -(ratio * given.advantages).mean()
    expected = torch.autograd.grad(loss, (hidden, weight))
    for one, other in zip(gpu_cases.exact_gradients(given, kind), expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-8)


@pytest.mark.usefixtures("benches")
def test_tokens_of_peaked_data_are_likely_and_those_of_random_data_are_not():
    import gpu_cases

    sizes = gpu_cases.Sizes(200, 10, 64, 4000)
    likely = {
        data: gpu_cases.exact_logprobs(
            gpu_cases.batch(sizes, data, "on policy", CPU, torch.bfloat16)
        ).exp()
        for data in gpu_cases.DATA
    }
    assert float(likely["random"].max()) < 0.1
    assert float(likely["peaked"].quantile(0.1)) > 0.05
    assert float(likely["peaked"].median()) > 0.5


@pytest.mark.usefixtures("benches")
def test_a_share_is_that_of_the_best_product_and_a_row_without_an_end_gives_its_reason():
    from gpu_table import table

    spent = {"median": 0.2, "least": 0.1, "most": 0.4, "calls": 3}
    head = {"stage": "rivals", "state": "done", "name": "ours", "data": "random", "loss": "off"}
    head |= {"products": "3", "logits": "float32", "operations": 5e12, "seconds": spent}
    product = {"stage": "ceilings", "state": "done", "seconds": spent}
    rows = [
        product | {"name": "logits", "operations_a_second": 4e13},
        product | {"name": "gradient of hidden", "operations_a_second": 5e13},
        head,
        {"stage": "rivals", "name": "theirs", "state": "failed", "says": "a | b\nc"},
    ]
    text = table(rows)
    assert "| ours | random | off | 3 | float32 | 200 (100 to 400) | 50% |" in text
    assert "| rivals | theirs | failed | a \\| b c |" in text
