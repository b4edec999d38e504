"""Make what the training guide uses, in `runs/letters`: a small model, prompts, scored completions.

It takes seconds, without a download and without a GPU. The task is that of the demo: the letters
of a word in alphabetical order (`demo_task.py`). A careless teacher has shown the model how.
"""

import argparse
import json
import random
from pathlib import Path

import demo_task
import polars as pl
import torch

from gspo_rs.rewards import score
from gspo_rs.samplers import transformers

GROUP = 8
LONGEST = demo_task.LONGEST + 2


def main() -> None:
    """Write the model, the prompts and the scored completions."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("runs/letters"))
    parser.add_argument("--lessons", type=int, default=200, help="supervised steps")
    options = parser.parse_args()
    torch.set_num_threads(1)  # the tensors are so small that sharing them out costs more
    options.output.mkdir(parents=True, exist_ok=True)
    rng, letters = random.Random(0), demo_task.tokenizer()
    model = demo_task.newborn(len(letters), 0)
    *_, loss = demo_task.teach(model, letters, rng, steps=options.lessons)
    model.save_pretrained(options.output / "model")
    letters.save_pretrained(options.output / "model")
    rows = demo_task.words(rng, 512)
    lines = [json.dumps(row) + "\n" for row in rows]
    (options.output / "prompts.jsonl").write_text("".join(lines))
    scored(model, letters, rows[:256]).write_parquet(options.output / "scored.parquet")
    print(f"{options.output}: model ({loss:.2f} nats per letter), prompts.jsonl, scored.parquet")


def scored(model, letters, rows: list[dict[str, str]]) -> pl.DataFrame:
    """Return `GROUP` completions of each prompt with their rewards, one row each."""
    rollouts = transformers.generate(
        model,
        letters,
        [row["prompt"] for row in rows],
        num_generations=GROUP,
        max_completion_length=LONGEST,
        seed=0,
    )
    answers = [row["answer"] for row in rows for _ in range(GROUP)]
    columns = {"answer": answers}
    return pl.DataFrame(
        {
            "prompt_id": [number for number in range(len(rows)) for _ in range(GROUP)],
            "prompt": rollouts.prompts,
            "completion": rollouts.completions,
            "truncated": rollouts.truncated,
            "reward": score(demo_task.reward, rollouts.prompts, rollouts.completions, columns),
            **columns,
        }
    )


if __name__ == "__main__":
    main()
