"""Reward functions that end the program, or cannot be imported: told in one line, code not 0."""

import sys

import pytest

from fixtures.forked import finished
from gspo_rs.rewards import load, score
from gspo_rs.rewards.functions import RewardError

ANSWER = "return [0.0] * len(prompts)"


def trained(tmp_path, model, reward, *more):
    """Run `gspo-rs train` with a reward file of this text, from another folder."""
    (tmp_path / "elsewhere").mkdir(exist_ok=True)
    (tmp_path / "reward.py").write_text(reward)
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "ab"}\n{"prompt": "cd"}\n')
    (tmp_path / "run.toml").write_text(
        f'model = "{model}"\nprompts = "prompts.jsonl"\nreward = "reward.py:f"\n'
        f'output_dir = "{tmp_path}/out"\nmax_completion_length = 4\nprompts_per_step = 2\n'
        "num_generations = 2\nmax_steps = 1\neval_size = 0\n"
    )
    return finished("train", tmp_path / "run.toml", *more, cwd=tmp_path / "elsewhere")


LEAVING = {
    "at import by sys.exit": ("import sys\nsys.exit(0)\n", r"exit\(0\)"),
    "at import by os._exit": ("import os\nos._exit(0)\n", r"exit\(0\)"),
    "by sys.exit": (f"import sys\ndef f(prompts, **_):\n    sys.exit(0)\n    {ANSWER}\n", "exit"),
    "by exit": (f"def f(prompts, **_):\n    exit()\n    {ANSWER}\n", "exit"),
    "by os._exit": (f"import os\ndef f(prompts, **_):\n    os._exit(0)\n    {ANSWER}\n", "exit"),
    "by os._exit of a name": (
        f"from os import _exit\ndef f(prompts, **_):\n    _exit(0)\n    {ANSWER}\n",
        "exit",
    ),
    "by posix._exit": (
        f"import posix\ndef f(prompts, **_):\n    posix._exit(0)\n    {ANSWER}\n",
        "exit",
    ),
    "by another program": (
        f"import os\ndef f(prompts, **_):\n    os.execlp('true', 'true')\n    {ANSWER}\n",
        "exit",
    ),
    "by os._exit in a thread": (
        "import os, threading\ndef f(prompts, **_):\n"
        f"    thread = threading.Thread(target=os._exit, args=(0,))\n    thread.start()\n"
        f"    thread.join()\n    {ANSWER}\n",
        "exit",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LEAVING)
def test_a_reward_function_that_ends_the_program_is_told_and_is_no_success(name, letters, tmp_path):
    reward, words = LEAVING[name]
    run = trained(tmp_path, letters, reward)
    assert run.returncode in (1, 2)
    told = run.stderr.splitlines()[-1]
    assert told.startswith("error: ")
    assert words.replace("\\", "") in told
    assert "Traceback" not in run.stderr
    assert not (tmp_path / "out" / "final").exists()


BROKEN = {
    "def f(:\n": r"raised SyntaxError: .*, in line 1 of .*reward\.py",
    "import a_module_that_is_not_there\n": r"ModuleNotFoundError: No module .* in line 1 of",
    "from json import absent\n": r"raised ImportError: cannot import name 'absent'",
    "x = 1\ny = x / 0\n": r"raised ZeroDivisionError: .*, in line 2 of .*reward\.py",
    "class E(Exception):\n    pass\nraise E('a\\nb')\n": "raised E: a",
}


@pytest.mark.parametrize("text", BROKEN)
def test_a_reward_file_that_cannot_be_imported_is_told_with_its_line(text, tmp_path):
    (tmp_path / "reward.py").write_text(text)
    with pytest.raises(RewardError, match=BROKEN[text]):
        load(f"{tmp_path}/reward.py:f")


@pytest.mark.slow
def test_a_broken_reward_file_is_one_line_of_the_command(letters, tmp_path):
    run = trained(tmp_path, letters, "def f(:\n")
    assert run.returncode == 2
    assert len(run.stderr.splitlines()) == 1


def test_an_exit_inside_a_reward_function_names_the_prompt():
    def leaving(prompts, **_):
        if "b" in prompts:
            sys.exit("enough")
        return [0.0] * len(prompts)

    with pytest.raises(RewardError, match=r"leaving called exit\('enough'\).*; row 1, prompt 'b'"):
        score(leaving, ["a", "b"], ["x", "y"])


NEIGHBOUR = """
import os
from neighbour_of_reward import worth
def f(prompts, completions, **_):
    return [worth(c) for c in completions]
"""
POOL = """
import multiprocessing, os
def worth(text):
    return float(len(text))
def f(prompts, completions, **_):
    with multiprocessing.get_context("{start}").Pool(1) as pool:
        return pool.map(worth, completions)
"""


@pytest.mark.slow
def test_a_reward_file_imports_what_lies_beside_it(letters, tmp_path):
    (tmp_path / "neighbour_of_reward.py").write_text("def worth(text): return float(len(text))\n")
    run = trained(tmp_path, letters, NEIGHBOUR)
    assert run.returncode == 0, run.stderr


@pytest.mark.slow
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_a_reward_function_uses_processes_of_its_own(start, letters, tmp_path):
    run = trained(tmp_path, letters, POOL.replace("{start}", start))
    assert run.returncode == 0, run.stderr


def test_a_module_in_the_working_directory_is_found(tmp_path, monkeypatch):
    (tmp_path / "a_reward_of_mine.py").write_text("def f(**_): return [0.5]\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    assert score(load("a_reward_of_mine:f"), ["a"], ["b"]).tolist() == [0.5]


@pytest.mark.slow
def test_the_doctor_finds_no_function_healthy_that_ends_the_program(tmp_path):
    (tmp_path / "mine.py").write_text("import sys\ndef f(rewards, groups): sys.exit(0)\n")
    run = finished("doctor", f"{tmp_path}/mine.py:f")
    assert run.returncode != 0
    assert "exit" in run.stderr
