"""From prompts to a trained model in six steps, each of which leaves files that the next one reads.

Sample, grade, score, report, train offline; then sample and grade again, and compare with the
start. After `python examples/letters.py` it needs no arguments, no download and no GPU. Ends with 1
if the policy has not risen. Each step is a command, too: see docs/guides/grading.md.
"""

import argparse
import shutil
import sys
from pathlib import Path

import polars as pl

import gspo_rs as gs
from gspo_rs.files.grades import graded
from gspo_rs.samplers.offline import sample

REWARD = f"{Path(__file__).parent / 'demo_task.py'}:reward"


def main(words: list[str] | None = None) -> int:
    """Run the six steps; return the exit code."""
    options = asked(words)
    out = options.output
    shutil.rmtree(out, ignore_errors=True)  # what the last time has left
    completions(options, options.model, "start", seed=0)
    rows = graded(out / "start", out / "start_grades")  # no text is copied
    gs.score(rows, out / "scored", by="prompt_id")
    gs.report(rows, out / "report.html", by="prompt_id")
    result = gs.train(
        model=options.model,
        rollouts=str(out / "start"),
        grades=str(out / "start_grades"),
        output_dir=str(out / "train"),
        by="prompt_id",
        completion_tokens_column="completion_tokens",
        truncated_column="finish_reason",
        max_completion_length=options.max_tokens,
        algorithm="percentile",
        clip_low=0.2,
        clip_high=0.2,
        learning_rate=options.learning_rate,
        prompts_per_step=8,
        num_train_epochs=options.epochs,
    )
    completions(options, str(result.final), "end", seed=1)
    found = percentile(out / "end_grades", out / "start_grades")
    print(f"a completion beats {found:.1%} of those that the start gave to its prompt")
    return 0 if found > 0.5 else 1


def asked(words: list[str] | None) -> argparse.Namespace:
    """Return what is asked for on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="runs/letters/model")
    parser.add_argument("--prompts", type=Path, default=Path("runs/letters/prompts.jsonl"))
    parser.add_argument("--reward", default=REWARD)
    parser.add_argument("--pass", dest="columns", action="append", default=None)
    parser.add_argument("--output", type=Path, default=Path("runs/pipeline"))
    parser.add_argument("--max-tokens", type=int, default=10)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--epochs", type=int, default=2)
    found = parser.parse_args(words)
    found.columns = ["answer"] if found.columns is None else [one for one in found.columns if one]
    return found


def completions(options: argparse.Namespace, model: str, name: str, *, seed: int) -> None:
    """Sample completions of all prompts into a folder, and grade them into another."""
    target = options.output / name
    sample(options.prompts, target, model=model, n=8, max_tokens=options.max_tokens, seed=seed)
    found = gs.grade(
        target,
        options.output / f"{name}_grades",
        reward=options.reward,
        columns=options.columns,
        by="prompt_id",
        key="generation",
        workers=1,
        start_timeout=600,  # the task of the letters loads PyTorch
    )
    print(f"{target}: {found.rows} completions, {found.status}")


def percentile(grades: Path, start: Path) -> float:
    """Return the mean share of the start's rewards of its prompt that a reward beats."""
    new, old = (
        pl.read_parquet(folder / "*.parquet", columns=["prompt_id", "reward"])
        for folder in (grades, start)
    )
    pairs = new.join(old.rename({"reward": "before"}), on="prompt_id")
    beaten = (pl.col("reward") > pl.col("before")) + 0.5 * (pl.col("reward") == pl.col("before"))
    return float(pairs.select(beaten.mean()).item())


if __name__ == "__main__":
    sys.exit(main())
