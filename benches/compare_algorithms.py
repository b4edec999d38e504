"""Train the same model by every algorithm from several seeds, and draw reward over step.

    python benches/compare_algorithms.py --model <directory of the story model>

Two tasks: the demo's (sorting letters, a model of 220 000 parameters that a careless teacher
taught) and the stories of `examples/stories.toml`. Every run has the same prompts, group size,
steps and, within a task, learning rate: that of GSPO, tuned for none of the others. The presets
that are not compared run once, from the first seed, to show that they train. Each run that is done
is kept in `rewards.jsonl`, so that a stopped comparison goes on where it was. Writes `table.md`,
and `<task>.svg` with the mean over seeds of those compared.
"""

import argparse
import json
import random
import statistics
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from measurement import refuse_debug_build
from rich.console import Console
from transformers.utils.logging import disable_progress_bar

from gspo_rs.train import train
from gspo_rs.train.config.config import Config
from gspo_rs.train.config.presets import PRESETS
from gspo_rs.train.config.toml import load
from gspo_rs.train.metrics import read

mpl.use("agg")
from matplotlib import pyplot as plt

EXAMPLES = Path(__file__).parents[1] / "examples"

# Label → fields of the configuration.
CONTENDERS = {
    "percentile": {"algorithm": "percentile"},
    "gspo": {"algorithm": "gspo"},
    "grpo": {"algorithm": "grpo"},
    "grpo, percentile": {"algorithm": "grpo", "advantage": "percentile"},
    "dapo": {"algorithm": "dapo"},
    "dr_grpo": {"algorithm": "dr_grpo"},
    "sapo": {"algorithm": "sapo"},
    "cispo": {"algorithm": "cispo"},
    "rloo": {"algorithm": "rloo"},
    "listwise": {"algorithm": "listwise"},
}
OFFLINE = {"qrpo"}
ONCE = {name: {"algorithm": name} for name in PRESETS if name not in {*CONTENDERS, *OFFLINE}}
RUNS = CONTENDERS | ONCE


def main() -> None:
    """Run what is missing, then write table and plots."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="directory of the story model")
    parser.add_argument("--output", type=Path, default=Path("runs/compare"))
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=list(RUNS), default=list(RUNS))
    options = parser.parse_args()
    refuse_debug_build()
    torch.set_num_threads(1)
    disable_progress_bar()
    options.output.mkdir(parents=True, exist_ok=True)
    file = options.output / "rewards.jsonl"
    done = known(file)
    for seed in range(options.seeds):
        for task, base in (("demo", demo_run), ("stories", stories_run)):
            for name in options.only:
                if (task, name, seed, options.steps) in done or (seed and name in ONCE):
                    continue
                config = base(options, seed)
                folder = options.output / task / f"{name.replace(', ', '-')}-{seed}"
                rewards = rewards_of(replace(config, **RUNS[name], output_dir=str(folder)))
                record = {"task": task, "name": name, "seed": seed, "steps": options.steps}
                with file.open("a") as lines:
                    lines.write(json.dumps({**record, "rewards": rewards}) + "\n")
    done = {key: found for key, found in known(file).items() if key[3] == options.steps}
    (options.output / "table.md").write_text(table(done))
    for task in ("demo", "stories"):
        draw(options.output / f"{task}.svg", task, done)


def known(file: Path) -> dict[tuple[str, str, int, int], list[float]]:
    """Read the rewards by step of every run that is done."""
    records = map(json.loads, file.read_text().splitlines()) if file.exists() else []
    return {(r["task"], r["name"], r["seed"], r["steps"]): r["rewards"] for r in records}


def rewards_of(config: Config) -> list[float]:
    """Train and return the mean reward of each step."""
    result = train(config)
    return [record["reward/mean"] for record in read(result.metrics_file) if record["step"] > 0]


def demo_run(options: argparse.Namespace, seed: int) -> Config:
    """Return the demo's run from its careless pupil, who is the same for every algorithm."""
    sys.path.insert(0, str(EXAMPLES))
    import demo
    import demo_task

    folder = options.output / f"demo-start-{seed}"
    told = argparse.Namespace(output=folder, seed=seed, lessons=300, steps=options.steps)
    if not (folder / "prompts.jsonl").exists():
        folder.mkdir(parents=True, exist_ok=True)
        questions = demo_task.words(random.Random(f"held out {seed}"), 64)
        demo.taught(demo_task.tokenizer(), questions, told, Console(stderr=True))
    return replace(demo.run_config(told), eval_size=0, logging_steps=options.steps)


def stories_run(options: argparse.Namespace, seed: int) -> Config:
    """Return the stories run."""
    changes = [f"model={options.model}", f"max_steps={options.steps}", f"seed={seed}"]
    changes += ["eval_size=0", "save_steps=0", "device=cpu", f"logging_steps={options.steps}"]
    return load(EXAMPLES / "stories.toml", changes)


def table(done: dict[tuple[str, str, int, int], list[float]]) -> str:
    """Return the mean reward of the first and last five steps, and how the last ones compare."""
    lines = [f"| task | algorithm | first 5 steps | last 5 steps | against {BASE} | seeds |"]
    lines.append("|---|---|---:|---:|---:|---:|")
    for task in ("demo", "stories"):
        for name in RUNS:
            runs = {seed: run for (t, n, seed, _), run in done.items() if (t, n) == (task, name)}
            if not runs:
                continue
            first, last = ([statistics.mean(run[cut]) for run in runs.values()] for cut in ENDS)
            base = [done.get((task, BASE, seed, len(run))) for seed, run in runs.items()]
            pairs = [x - statistics.mean(b[ENDS[1]]) for x, b in zip(last, base, strict=True) if b]
            means = f"{statistics.mean(first):.3f} | {statistics.mean(last):.3f}"
            lines.append(f"| {task} | {name} | {means} | {difference(pairs)} | {len(runs)} |")
    return "\n".join(lines) + "\n"


def difference(pairs: list[float]) -> str:
    """Return the mean of differences seed by seed, with its standard error."""
    if len(pairs) < 2 or not any(pairs):
        return "-"
    error = statistics.stdev(pairs) / len(pairs) ** 0.5
    return f"{statistics.mean(pairs):+.3f} ± {error:.3f}"


BASE = "gspo"
ENDS = (slice(0, 5), slice(-5, None))


def draw(path: Path, task: str, done: dict[tuple[str, str, int, int], list[float]]) -> None:
    """Write the mean reward over step: of the losses, and of two losses by their advantage."""
    figure, panels = plt.subplots(1, 2, figsize=(11, 4.5), sharey=True, layout="constrained")
    losses = [name for name in CONTENDERS if name not in ("percentile", "grpo, percentile")]
    for axes, names, title in zip(panels, (losses, ADVANTAGES), TITLES, strict=True):
        for name in names:
            runs = np.array([run for key, run in done.items() if key[:2] == (task, name)])
            if len(runs):
                steps = np.arange(1, runs.shape[1] + 1)
                (line,) = axes.plot(steps, runs.mean(axis=0), label=name)
                if names is ADVANTAGES:
                    colour, ends = line.get_color(), (runs.min(axis=0), runs.max(axis=0))
                    axes.fill_between(steps, *ends, alpha=0.12, color=colour, linewidth=0)
        axes.set(xlabel="optimizer step", title=f"{task}: {title}")
        axes.legend(ncols=2, fontsize="small")
    panels[0].set_ylabel("mean reward")
    figure.savefig(path)
    plt.close(figure)


ADVANTAGES = ("percentile", "gspo", "grpo, percentile", "grpo")
TITLES = ("losses, mean over seeds", "percentile against z-score, with the range of the seeds")


if __name__ == "__main__":
    main()
