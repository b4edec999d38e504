"""Write the sample data of the guides into `examples/data`: `python examples/make_data.py`.

Two made-up models answer small questions, and a grader rewards them: 1 for the right answer, 0.1
for a wrong one that is marked as the answer, 0 for anything else, and nothing where the grader did
not reply. The same few hundred rows are written in the containers and layouts of the guides.
"""

import argparse
import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path

import polars as pl

PROMPTS, EACH = 16, 4  # prompts of a task; completions of a prompt by each model
MODELS = {"small": 1.0, "large": 1.3}  # the chance of a right answer to the easiest question
WORDS = ["acorn", "berry", "cedar", "elm", "fern", "ginger", "hazel", "iris", "maple", "nettle"]


def addition(rng: random.Random, difficulty: float) -> tuple[str, str]:
    """Return a sum of two numbers, longer ones if it is difficult, and its value."""
    high = 10 ** (1 + round(2 * difficulty))
    one, other = rng.randint(high // 10, high), rng.randint(high // 10, high)
    return f"What is {one} + {other}?", str(one + other)


def sorting(rng: random.Random, difficulty: float) -> tuple[str, str]:
    """Return words to be sorted, more of them if it is difficult, and the sorted words."""
    words = rng.sample(WORDS, 3 + round(3 * difficulty))
    return f"Sort these words: {', '.join(words)}.", ", ".join(sorted(words))


def counting(rng: random.Random, difficulty: float) -> tuple[str, str]:
    """Return words in which to count a letter, and how often it is there."""
    text, letter = " ".join(rng.sample(WORDS, 1 + round(3 * difficulty))), rng.choice("aeir")
    return f'How many letters {letter} are in "{text}"?', str(text.count(letter))


TASKS: dict[str, Callable[[random.Random, float], tuple[str, str]]] = {
    "addition": addition,
    "sorting": sorting,
    "counting": counting,
}


def mistaken(answer: str, rng: random.Random) -> str:
    """Return a near miss: a number that is off by one or ten, or two words exchanged."""
    if answer.isdigit():
        return str(max(int(answer) + rng.choice([-10, -1, 1, 10]), 0))
    words = answer.split(", ")
    place = rng.randrange(len(words) - 1)
    words[place], words[place + 1] = words[place + 1], words[place]
    return ", ".join(words)


def completion(answer: str, chance: float, rng: random.Random) -> str:
    """Return what a model writes that is right with this chance, sometimes with some words."""
    found = answer if rng.random() < chance else mistaken(answer, rng)
    draft = mistaken(answer, rng)
    forms = [
        f"{found}",
        f"Answer: {found}",
        f"First I thought {draft}, but on looking again it is not.\nAnswer: {found}",
        f"It might be {found}, or else {draft}.",
    ]
    return rng.choices(forms, [7, 8, 4, 1])[0]


def graded(text: str, answer: str, rng: random.Random) -> float | None:
    """Return the reward of a completion, or None: one call in fifty of the grader fails."""
    if rng.random() < 0.02:
        return None
    if text.removeprefix("Answer: ").rpartition("\nAnswer: ")[2] == answer:
        return 1.0
    return 0.1 if "Answer: " in text else 0.0


def completions(rng: random.Random, models: dict[str, float]) -> pl.DataFrame:
    """Return one row for each completion of each prompt; the prompts are always the same."""
    questions, rows = random.Random(0), []
    for task, ask in TASKS.items():
        for number in range(PROMPTS):
            difficulty = number / (PROMPTS - 1)
            prompt, answer = ask(questions, difficulty)
            asked = {"prompt_id": f"{task}-{number:02}", "task": task, "prompt": prompt}
            for model in [name for name in models for _ in range(EACH)]:
                text = completion(answer, models[model] - 1.2 * difficulty, rng)
                written = {"model": model, "completion": text, "reward": graded(text, answer, rng)}
                rows.append(asked | {"answer": answer} | written)
    return pl.DataFrame(rows)


def by_prompt(frame: pl.DataFrame) -> pl.DataFrame:
    """Return one row for each prompt, with lists of its completions and rewards."""
    rows = frame.group_by("prompt", "task", maintain_order=True).agg("completion", "reward")
    return rows.select("prompt", "completion", "reward", tags=pl.concat_list("task"))


def conversations(frame: pl.DataFrame) -> list[dict[str, object]]:
    """Return each row as the messages of a conversation and their reward."""
    return [
        {
            "prompt_id": row["prompt_id"],
            "messages": [
                {"role": "user", "content": row["prompt"]},
                {"role": "assistant", "content": row["completion"]},
            ],
            "reward": row["reward"],
        }
        for row in frame.iter_rows(named=True)
    ]


def dump(frame: pl.DataFrame, step: int) -> pl.DataFrame:
    """Return scored rows as verl's trainer dumps the rollouts of a step."""
    return frame.drop_nulls("reward").select(
        input="prompt", output="completion", gts="answer", score="reward", step=pl.lit(step)
    )


def write(folder: Path) -> None:
    """Write all files into `folder`."""
    rows = completions(random.Random(1), MODELS)
    for name in ("completions", "rollouts", *(f"by_task/task={task}" for task in TASKS)):
        (folder / name).mkdir(parents=True, exist_ok=True)
    half = len(rows) // 2
    rows[:half].write_parquet(folder / "completions" / "part-0.parquet")
    rows[half:].write_parquet(folder / "completions" / "part-1.parquet")
    packed = gzip.compress(rows.write_ndjson().encode(), mtime=0)
    (folder / "completions.jsonl.gz").write_bytes(packed)
    for task in TASKS:
        part = rows.filter(task=task).drop("task")
        part.write_parquet(folder / "by_task" / f"task={task}" / "part-0.parquet")
    counted = rows.filter(task="counting")
    counted.write_json(folder / "counting.json")
    counted.write_csv(folder / "counting.csv")
    counted.write_ipc_stream(folder / "counting.arrow")
    by_prompt(rows).write_ndjson(folder / "by_prompt.jsonl")
    lines = [json.dumps(row) + "\n" for row in conversations(counted)]
    (folder / "conversations.jsonl").write_text("".join(lines))
    for name, seed, chance in (("before", 2, 0.8), ("after", 3, 1.1)):
        of_one = completions(random.Random(seed), {"policy": chance})
        of_one.drop("answer", "model").write_parquet(folder / f"{name}.parquet")
    for step, part in enumerate((rows[:32], rows[32:64]), start=1):
        dump(part, step).write_ndjson(folder / "rollouts" / f"{step}.jsonl")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("data"))
    write(parser.parse_args().output)
