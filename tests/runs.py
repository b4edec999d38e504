"""Training runs of a second in folders of their own, and processes that train."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
from safetensors.torch import load_file

from gspo_rs.train import metrics

# Draws from both global generators, as rewards of other people may.
REWARD = """
import random
import numpy as np
def noisy(completions, **_):
    return [t.count("a") + random.random() / 99 + np.random.random() / 99 for t in completions]
"""
SETTINGS = {
    "max_completion_length": 8,
    "prompts_per_step": 2,
    "steps_per_generation": 2,
    "max_steps": 9,
    "learning_rate": 1e-2,
    "eval_size": 2,
    "eval_steps": 4,
    "seed": 3,
}
MAIN = "from gspo_rs.cli import main; main()"


def make(folder, model, *, reward=REWARD, **settings):
    """Write a run into a new folder, offline where `rollouts` is set; its run file has `run/`."""
    folder.mkdir(parents=True, exist_ok=True)
    prompts = [{"prompt": text} for text in ("ab", "bc", "cd", "de", "ef")]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(p) + "\n" for p in prompts))
    (folder / "reward.py").write_text(reward)
    draw = np.random.default_rng(0)
    texts = ["".join(draw.choice(list("abcdefgh"), 6)) for _ in range(60)]
    scored = {"prompt_id": np.arange(60) % 15, "prompt": "abc", "completion": texts}
    scored["reward"] = [text.count("a") + draw.random() / 9 for text in texts]
    pl.DataFrame(scored).write_parquet(folder / "scored.parquet")
    told = {"model": str(model), "output_dir": "run", **SETTINGS}
    if "rollouts" not in settings:
        told |= {"prompts": "prompts.jsonl", "reward": "reward.py:noisy"}
    path = folder / "run.toml"
    path.write_text("".join(f"{k} = {json.dumps(v)}\n" for k, v in {**told, **settings}.items()))
    return path


def process(*arguments, code=MAIN, cwd=None, **environment):
    """Start the command line in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(happened, child):
    """Wait until `happened()`, while the process lives."""
    deadline = time.monotonic() + 600
    while not happened():
        assert child.poll() is None, child.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def last_step(folder):
    """The last step whose line is whole."""
    path = Path(folder) / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    whole = [line for line in lines if line.endswith("\n")]
    return int(json.loads(whole[-1])["step"]) if whole else -1


def weights(folder):
    (file,) = Path(folder).glob("*.safetensors")
    return {name: tensor.numpy().tobytes() for name, tensor in load_file(file).items()}


def records(folder):
    """The metrics of every step, but for times."""
    return [
        {k: v for k, v in record.items() if not k.startswith(("time/", "speed/"))}
        for record in metrics.read(Path(folder) / "metrics.jsonl")
    ]


def contents(folder):
    """Every file below a folder with its bytes."""
    files = (path for path in Path(folder).rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def copied(source, target):
    return Path(shutil.copytree(source, target))
