"""Benchmarks: all are run, none with a debug build, and runs are compared by ratio."""

import ast
import json
import subprocess
import sys

import pytest

from fixtures.places import ROOT

BENCHES = ROOT / "benches"
SCRIPTS = sorted(
    path.name for path in BENCHES.glob("*.py") if 'if __name__ == "__main__"' in path.read_text()
)
NOT_TIMED = ("compare_runs.py", "head_rounding.py", "roofline.py")


@pytest.fixture
def benches(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHES))


def run(*command):
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)


@pytest.mark.usefixtures("benches")
def test_every_benchmark_is_run_or_needs_a_model_or_a_gpu_or_has_no_rival():
    import run_all

    others = (*run_all.NEED_A_MODEL, *run_all.NEED_A_GPU, *run_all.NO_RIVAL)
    known = {*run_all.BENCHMARKS, *others}
    assert known == {*SCRIPTS} - {"run_all.py", *NOT_TIMED}


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name not in NOT_TIMED])
def test_a_benchmark_refuses_a_debug_build_as_soon_as_it_has_read_its_arguments(name):
    nodes = ast.parse((BENCHES / name).read_text()).body
    (main,) = [node for node in nodes if getattr(node, "name", "") == "main"]
    lines = [ast.unparse(line) for line in main.body]
    before = lines[: lines.index("refuse_debug_build()")]
    assert all(line.startswith(("'", "parser", "options", "asked", "args")) for line in before)


def test_a_debug_build_is_refused_with_the_remedy():
    script = (
        "import runpy, sys; from gspo_rs import _core; _core.BUILD_PROFILE = 'debug'\n"
        f"sys.path.insert(0, {str(BENCHES)!r})\n"
        f"runpy.run_path({str(BENCHES / 'bench_buffer.py')!r}, run_name='__main__')"
    )
    done = run("-c", script)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: gspo_rs._core is a debug build")
    assert "make setup" in done.stderr


@pytest.mark.slow
def test_a_run_writes_its_conditions_and_a_ratio_for_each_rival(tmp_path):
    output = tmp_path / "runs" / "bench.json"
    only = ("--only", "bench_buffer.py", "--small")
    done = run(BENCHES / "run_all.py", *only, "--output", output)
    assert done.returncode == 0, done.stderr
    found = json.loads(output.read_text())
    assert {"commit", "machine", "versions", "small", "results", "failed"} == {*found}
    (result,) = found["results"]
    assert {"name", "ours", "rival", "ratio", "rows", "seconds"} == {*result}
    assert result["rows"] == 160_000
    assert result["ratio"] == result["seconds"]["rival"] / result["seconds"]["ours"]


@pytest.mark.usefixtures("benches")
def test_each_of_ours_is_compared_with_each_rival_and_with_none_of_ours(tmp_path, monkeypatch):
    import results

    file = tmp_path / "results.jsonl"
    monkeypatch.setenv(results.FILE, str(file))
    seconds = {"wide": 2.0, "narrow": 1.0, "copy": 4.0, "Polars": 3.0}
    results.record("score", seconds, ours=["wide", "narrow", "spilled"], rows=5)
    found = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(one["ours"], one["rival"], one["ratio"]) for one in found] == [
        ("wide", "copy", 2.0),
        ("wide", "Polars", 1.5),
        ("narrow", "copy", 4.0),
        ("narrow", "Polars", 3.0),
    ]


@pytest.mark.usefixtures("benches")
def test_contenders_take_turns_and_run_at_least_once_in_each():
    import measurement

    calls = []
    runs = {name: lambda name=name: calls.append(name) for name in "ab"}
    least = measurement.turns(runs, 2, turn=0)
    assert calls == ["a", "b", "a", "b"]
    assert all(0 <= seconds < float("inf") for seconds in least.values())


@pytest.mark.usefixtures("benches")
def test_a_contender_that_fails_shows_its_error(tmp_path):
    import measurement

    script = tmp_path / "script.py"
    script.write_text("raise ValueError('no such vocabulary')")
    with pytest.raises(SystemExit, match="no such vocabulary"):
        measurement.ask(str(script))


def stored(path, *, small=True, scale=1.0, **ratios):
    results = [
        {"name": name, "ours": "us", "rival": "them", "ratio": ratio, "rows": 1, "seconds": scale}
        for name, ratio in ratios.items()
    ]
    machine = {"processor": "any", "cores": 2, "load": 0.0}
    run = {"commit": "0", "machine": machine, "versions": {}, "small": small, "failed": []}
    path.write_text(json.dumps({**run, "results": results}))
    return path


@pytest.mark.parametrize(
    ("fresh", "verdict", "code"),
    [
        ({"a": 2.0}, "| a | 1 | us | them | 2.00 | 2.00 | same |", 0),
        ({"a": 1.61, "scale": 50.0}, "| 1.61 | same |", 0),
        ({"a": 1.5}, "| 1.50 | worse |", 1),
        ({"a": 3.0}, "| 3.00 | better |", 0),
        ({"a": 2.0, "b": 1.0}, "| b | 1 | us | them |  | 1.00 | new |", 0),
        ({"b": 1.0}, "| a | 1 | us | them | 2.00 |  | missing |", 1),
    ],
)
def test_a_run_is_worse_only_by_a_ratio_that_fell_or_is_missing(tmp_path, fresh, verdict, code):
    before = stored(tmp_path / "before.json", a=2.0)
    after = stored(tmp_path / "after.json", **fresh)
    done = run(BENCHES / "compare_runs.py", before, after, "--tolerance", "0.25")
    assert verdict in done.stdout
    assert done.returncode == code


def test_a_small_run_is_not_compared_with_a_full_one(tmp_path):
    before, after = (stored(tmp_path / f"{n}.json", small=bool(n), a=1.0) for n in (0, 1))
    done = run(BENCHES / "compare_runs.py", before, after)
    assert done.returncode == 1
    assert "--small" in done.stderr


def test_a_missing_run_is_named_with_the_command_that_makes_it(tmp_path):
    after, before = stored(tmp_path / "after.json", a=1.0), tmp_path / "before.json"
    done = run(BENCHES / "compare_runs.py", before, after)
    assert done.returncode == 1
    assert f"--output {before}" in done.stderr
    assert len(done.stderr.splitlines()) == 1
