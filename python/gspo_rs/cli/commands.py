"""The commands: where they are, what `--help` says of them, how they are typed."""

__all__ = ["COMMANDS", "OPTIONS", "SUMMARY", "USAGE"]

SUMMARY = "Post-train language models with groups: sample, score, compare, teach."

# Name → the module of `gspo_rs.cli` where the command is, and its line of `--help`.
COMMANDS = {
    "best": (
        "choose",
        "Write the best completions of each group: prompt, completion, reward, keys.",
    ),
    "doctor": ("doctor", "Check your own loss or advantage function and list what is wrong."),
    "explode": ("choose", "Write one row per completion from one row per group with lists."),
    "filter": ("choose", "Write the rows that rules keep, or their row numbers."),
    "grade": (
        "grade",
        "Grade completions by reward functions that may hang, crash, exit or take all memory.",
    ),
    "nest": ("choose", "Write one row per group, its columns as lists."),
    "pairs": ("choose", "Write preference pairs for DPO: prompt, chosen, rejected, margin, keys."),
    "report": ("report", "Write one HTML page about scored completions."),
    "sample": ("sample", "Draw completions of prompts with a model or an endpoint, into files."),
    "scan": ("scan", "Show what a source holds, or write its rows into another file."),
    "score": (
        "score",
        "Score completions in files: rank, percentile and advantage in their group.",
    ),
    "stats": ("stats", "Describe scored groups in a table."),
    "train": ("train", "Train a causal language model, online or from scored completions."),
    "verify": ("score", "Check an output of `score` against its manifest."),
    "verl": ("choose", "Write one prompt per group in the schema of verl."),
}
# Name → its arguments, and a command as one would type it.
USAGE = {
    "best": (
        "SOURCE... -o TARGET [--by COLUMNS]",
        'best "scored/*.parquet" -o sft.jsonl --by prompt_id --keep reward:1.. --chat',
    ),
    "doctor": ("FUNCTION", "doctor my_project.losses:policy_loss"),
    "explode": ("SOURCE... -o TARGET", "explode groups.parquet -o rows.parquet"),
    "filter": (
        "SOURCE... -o TARGET [--by COLUMNS] --keep RULES",
        'filter "scored/*.parquet" -o hard.parquet --by prompt_id --keep pass-rate:..0.3',
    ),
    "grade": (
        "SOURCE... -o FOLDER --reward FUNCTION",
        'grade "in/*.parquet" -o graded --by prompt_id '
        "--reward gspo_rs.rewards.library:repetition_penalty",
    ),
    "nest": (
        "SOURCE... -o TARGET [--by COLUMNS]",
        'nest "scored/*.parquet" -o groups.parquet --by prompt_id --once prompt',
    ),
    "pairs": (
        "SOURCE... -o TARGET [--by COLUMNS]",
        'pairs "scored/*.parquet" -o dpo.parquet --by prompt_id --margin 0.2',
    ),
    "report": (
        "SOURCE... [-o report.html] [--by COLUMNS]",
        'report "scored/*.parquet" -o report.html --by prompt_id',
    ),
    "sample": (
        "SOURCE... -o FOLDER --model MODEL",
        "sample prompts.jsonl -o sampled --endpoint http://localhost:8000 --n 8",
    ),
    "scan": ("SOURCE... [-o TARGET]", "scan runs.jsonl.gz -o runs.parquet"),
    "score": (
        "SOURCE... -o FOLDER [--by COLUMNS]",
        'score "in/*.parquet" -o scored --by prompt_id --estimator rloo',
    ),
    "stats": (
        "SOURCE... [--by COLUMNS]",
        'stats "scored/*.parquet" --by prompt_id --per model',
    ),
    "train": (
        "[FILE]",
        "train --model MODEL --prompts prompts.jsonl --reward reward.py:score",
    ),
    "verify": ("FOLDER...", "verify scored"),
    "verl": (
        "SOURCE... -o TARGET [--by COLUMNS]",
        'verl "scored/*.parquet" -o train.parquet --by prompt_id --ground-truth answer '
        "--data-source openai/gsm8k",
    ),
}
# Name → its line of `--help`; the first and the last are cyclopts' own.
OPTIONS = {
    "--help (-h)": "Display this message and exit.",
    "--install-completion": (
        "Let your shell complete commands and options; says which files it writes."
    ),
    "--version": "Display application version.",
}
