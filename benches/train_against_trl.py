"""The stories run of `examples/stories.toml`, with gspo_rs and with TRL's GRPOTrainer.

    python benches/train_against_trl.py --model <directory of the story model>

Same model, prompts, reward, completions per prompt, steps, lengths, clip and learning rate; each
in a process of its own, one after the other, with the same number of threads. Timed is all from
loading the model to the last step, without imports. Prints a table in Markdown.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from measurement import Spent, answer, ask, refuse_debug_build, spending
from results import record

from gspo_rs.train.config.config import Config
from gspo_rs.train.config.toml import load

EXAMPLES = Path(__file__).parents[1] / "examples"
PROMPTS = EXAMPLES / "stories_prompts.jsonl"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--steps-per-generation", type=int, default=2)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--run", choices=sorted(TRAINERS), help="one of them, in this process")
    options = parser.parse_args()
    refuse_debug_build()
    if options.run:
        with tempfile.TemporaryDirectory() as folder:
            answer(TRAINERS[options.run](settings(options), Path(folder)))
        return
    runs = {name: [] for name in TRAINERS}
    for _ in range(options.repeats):  # in turn, so that a busy minute meets both
        for name, found in runs.items():
            found.append(measured(name, options))
            print(f"{name}: {found[-1]}", file=sys.stderr, flush=True)
    fastest = {name: best(found) for name, found in runs.items()}
    print(table(fastest))
    seconds = {name: found["seconds"] for name, found in fastest.items()}
    steps = options.steps_per_generation
    record(f"training: {steps} steps a sample", seconds, ours=["gspo_rs"], rows=options.steps)


def measured(name: str, options: argparse.Namespace) -> dict[str, float]:
    """Run one trainer in a fresh process."""
    arguments = ["--run", name, "--model", options.model, "--steps", str(options.steps)]
    arguments += ["--steps-per-generation", str(options.steps_per_generation)]
    environment = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
    began = time.perf_counter()
    found = ask(__file__, *arguments, environment=environment)
    return found | {"process": time.perf_counter() - began}


def settings(options: argparse.Namespace) -> Config:
    """Return the stories run, with nothing in it but training."""
    return load(
        EXAMPLES / "stories.toml",
        [
            f"model={options.model}",
            f"max_steps={options.steps}",
            f"steps_per_generation={options.steps_per_generation}",
            f"logging_steps={options.steps}",
            "eval_size=0",
            "save_steps=0",
            "device=cpu",
        ],
    )


def gspo_rs(config: Config, folder: Path) -> dict[str, float]:
    """Train with this package."""
    from gspo_rs.train import train
    from gspo_rs.train.metrics import read

    config = replace(config, output_dir=str(folder / "run"))
    with spending() as spent:
        result = train(config)
    records = [record for record in read(result.metrics_file) if "reward/mean" in record]
    return outcome(
        [record["reward/mean"] for record in records],
        length=statistics.mean(record["length/mean"] for record in records),
        spent=spent,
    )


def trl(ours: Config, folder: Path) -> dict[str, float]:
    """Train with TRL, told the same."""
    import datasets
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOTrainer

    sys.path.insert(0, str(EXAMPLES))
    from stories_reward import story

    rewards: list[float] = []

    def reward(completions: list[str], thing: list[str], **_: object) -> list[float]:
        found = story(completions, thing)
        per_step = len(found) // ours.steps_per_generation
        rewards.extend(
            statistics.mean(found[i : i + per_step]) for i in range(0, len(found), per_step)
        )
        return found

    lines = [json.loads(line) for line in PROMPTS.read_text().splitlines()]
    with spending() as spent:
        trainer = GRPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(ours.model),
            processing_class=AutoTokenizer.from_pretrained(ours.model),
            reward_funcs=reward,
            args=told_trl(ours, folder),
            train_dataset=datasets.Dataset.from_list(lines),
        )
        trainer.train()
    logged = [x["completions/mean_length"] for x in trainer.state.log_history if "reward" in x]
    return outcome(rewards, length=statistics.mean(logged), spent=spent)


def told_trl(ours: Config, folder: Path) -> object:
    """Return the same run in the words of TRL."""
    from trl import GRPOConfig

    return GRPOConfig(
        output_dir=str(folder),
        per_device_train_batch_size=ours.prompts_per_step * ours.num_generations,
        steps_per_generation=ours.steps_per_generation,
        num_generations=ours.num_generations,
        max_completion_length=ours.max_completion_length,
        max_steps=ours.max_steps,
        learning_rate=ours.learning_rate,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=ours.warmup_steps,
        temperature=ours.temperature,
        beta=0.0,
        importance_sampling_level="sequence",
        loss_type="grpo",
        scale_rewards="group",
        epsilon=3e-4,
        epsilon_high=4e-4,
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        seed=ours.seed,
    )


TRAINERS = {"gspo_rs": gspo_rs, "trl": trl}


def outcome(rewards: list[float], *, length: float, spent: Spent) -> dict[str, float]:
    """Return what the table tells of a run."""
    return {
        "steps": len(rewards),
        "first": statistics.mean(rewards[:2]),
        "last": statistics.mean(rewards[-5:]),
        "length": length,
        "seconds": spent.wall,
        "cpu": spent.cpu,
    }


def best(found: list[dict[str, float]]) -> dict[str, float]:
    """Return the fastest of some runs of the same trainer."""
    return min(found, key=lambda run: run["seconds"])


def table(runs: dict[str, dict[str, float]]) -> str:
    """Return the comparison in Markdown."""
    ours, rival = runs["gspo_rs"], runs["trl"]
    if (ours["steps"], ours["length"]) != (rival["steps"], rival["length"]):
        sys.exit(f"not the same work: {ours} and {rival}")
    rows = [
        "| | gspo_rs | TRL | ratio |",
        "|---|---|---|---|",
    ]
    for key, label in (
        ("seconds", "wall s"),
        ("cpu", "CPU s"),
        ("process", "with imports, wall s"),
    ):
        rows.append(
            f"| {label} | {ours[key]:.1f} | {rival[key]:.1f} | {ours[key] / rival[key]:.2f} |"
        )
    for key, label in (("first", "mean reward, steps 1-2"), ("last", "mean reward, last 5 steps")):
        rows.append(f"| {label} | {ours[key]:.3f} | {rival[key]:.3f} | |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
