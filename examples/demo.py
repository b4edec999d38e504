"""Train a small language model with GSPO and show that it stands higher: `make demo`.

It needs no download and no GPU, and takes a minute or two on two CPU cores. A model of 220 000
parameters is taught to sort letters by a careless teacher, then trained on what each of its own
completions earns among the others of its group. Ends with 1 if the policy has not risen.
"""

import argparse
import json
import random
import shutil
import sys
import time
from pathlib import Path

import demo_plot
import demo_task
import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from transformers import AutoModelForCausalLM
from transformers.utils.logging import disable_progress_bar

from gspo_rs.rewards import score
from gspo_rs.samplers import transformers
from gspo_rs.train import Config, train
from gspo_rs.train.evaluate import compare
from gspo_rs.train.metrics import read

GROUP = 8
LONGEST = demo_task.LONGEST + 2  # room for the end token, and for one letter too many


def main() -> int:
    """Teach, train, compare; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("runs/demo"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lessons", type=int, default=300, help="supervised steps before")
    parser.add_argument("--steps", type=int, default=300, help="optimizer steps of GSPO")
    options = parser.parse_args()
    torch.set_num_threads(1)  # the tensors are so small that sharing them out costs more
    disable_progress_bar()  # of loading and saving: ours show what takes time
    console, began = Console(), time.perf_counter()
    cleared(options.output)
    letters = demo_task.tokenizer()
    questions = demo_task.words(random.Random(f"held out {options.seed}"), 64)
    model = taught(letters, questions, options, console)
    before, start_reward = answers(model, letters, questions, seed=options.seed)
    console.rule("2. GSPO: learn from where each completion stands in its group")
    result = train(run_config(options))
    trained = AutoModelForCausalLM.from_pretrained(result.final)
    after, reward = answers(trained, letters, questions, seed=options.seed + 1)
    percentile = compare(reward, start_reward)["eval/percentile"]
    console.rule("3. Before and after, on 64 words that were held out")
    console.print(summary(start_reward, reward, percentile))
    console.print(side_by_side(questions, before, after, options.seed))
    picture = options.output / "demo.png"
    demo_plot.draw(picture, read(result.metrics_file), start_reward, reward)
    console.print(f"plot: {picture}   model: {result.final}")
    completions = options.output / "train" / "completions"
    console.print(f"next: gspo-rs stats {completions} --by prompt_id", soft_wrap=True)
    risen = bool(reward.mean() >= start_reward.mean() + 0.2 and percentile >= 0.75)
    verdict = "[bold green]The policy has risen" if risen else "[bold red]The policy has NOT risen"
    console.print(
        f"{verdict}:[/] mean reward {start_reward.mean():.2f} to {reward.mean():.2f}, beats "
        f"{percentile:.0%} of the start's completions; {time.perf_counter() - began:.0f} s"
    )
    return 0 if risen else 1


def cleared(output: Path) -> None:
    """Make the output folder, without what an earlier demo left in it."""
    output.mkdir(parents=True, exist_ok=True)
    for name in ("start", "train"):
        shutil.rmtree(output / name, ignore_errors=True)


def taught(letters, questions, options: argparse.Namespace, console: Console):
    """Return a model that has learnt the task badly; leave it and the prompts in the folder."""
    console.rule("1. Supervised: a careless teacher shows how to sort letters")
    rng = random.Random(options.seed)
    model = demo_task.newborn(len(letters), options.seed)
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console
    )
    with bar:
        task = bar.add_task("", total=options.lessons)
        for loss in demo_task.teach(model, letters, rng, steps=options.lessons):
            bar.update(task, advance=1, description=f"loss {loss:.2f} nats per letter")
    model.save_pretrained(options.output / "start")
    letters.save_pretrained(options.output / "start")
    held_out = [row["prompt"] for row in questions]
    rows = [row for row in demo_task.words(rng, 4096) if row["prompt"] not in held_out]
    lines = [json.dumps(row) + "\n" for row in rows]
    (options.output / "prompts.jsonl").write_text("".join(lines))
    return model


def run_config(options: argparse.Namespace) -> Config:
    """Return what the training run is told."""
    return Config(
        model=str(options.output / "start"),
        output_dir=str(options.output / "train"),
        prompts=str(options.output / "prompts.jsonl"),
        reward=f"{Path(__file__).parent / 'demo_task.py'}:reward",
        algorithm="percentile",
        num_generations=GROUP,
        max_completion_length=LONGEST,
        prompts_per_step=16,
        steps_per_generation=2,
        learning_rate=1e-3,
        lr_scheduler_type="linear",
        warmup_steps=10,
        max_steps=options.steps,
        logging_steps=10,
        log_completions=True,
        eval_size=32,
        eval_steps=25,
        save_steps=0,
        seed=options.seed,
        device="cpu",
    )


def answers(model, letters, questions: list[dict[str, str]], *, seed: int):
    """Return `GROUP` completions of each question, and their rewards (n_questions, GROUP)."""
    rollouts = transformers.generate(
        model,
        letters,
        [row["prompt"] for row in questions],
        num_generations=GROUP,
        max_completion_length=LONGEST,
        seed=seed,
    )
    right = [row["answer"] for row in questions for _ in range(GROUP)]
    rewards = score(demo_task.reward, rollouts.prompts, rollouts.completions, {"answer": right})
    return rollouts.completions, rewards.reshape(-1, GROUP)


def summary(before: np.ndarray, after: np.ndarray, percentile: float) -> Table:
    """Return the table of what has changed."""
    table = Table("", "start", "trained")
    table.add_row("mean reward", f"{before.mean():.3f}", f"{after.mean():.3f}")
    table.add_row("share of the start's completions beaten", "0.500", f"{percentile:.3f}")
    table.add_row("without a fault", f"{(before == 1).mean():.1%}", f"{(after == 1).mean():.1%}")
    return table


def side_by_side(questions, before: list[str], after: list[str], seed: int) -> Table:
    """Return a table of some completions, wrong letters in red."""
    table = Table("prompt", "right", "start", "trained")
    for row in random.Random(seed).sample(range(len(questions)), 6):
        question, place = questions[row], row * GROUP
        right = question["answer"]
        shown = [coloured(found[place], right) for found in (before, after)]
        table.add_row(question["prompt"], right, *shown)
    return table


def coloured(completion: str, right: str) -> str:
    """Return rich markup of `completion` with the letters that are out of place in red."""
    padded = right.ljust(len(completion))
    return "".join(
        letter if letter == wanted else f"[red]{letter}[/red]"
        for letter, wanted in zip(completion, padded, strict=False)
    )


if __name__ == "__main__":
    sys.exit(main())
