"""The rows that every container of the matrix holds: 40 completions in nine groups."""

import polars as pl

# Members of each group: odd sizes, and a lone one.
SIZES = {"zürich": 7, "q 2": 5, "答案": 3, "q-4": 1, "q5": 9, "Ωmega": 5, "q7": 3, "q8": 4, "q9": 3}
TEXTS = ("4", "vier", "four, or «4»", 'she said "4"', "四\n(4)", "nobody knows")
COLUMNS = ("prompt_id", "prompt", "completion", "reward", "model", "answer")


def scored_rows() -> pl.DataFrame:
    """Rows of all groups in turn: with ties, a group of equal rewards, a null, many alphabets."""
    rows = []
    for turn in range(max(SIZES.values())):
        for number, (group, size) in enumerate(SIZES.items()):
            if turn >= size:
                continue
            row = len(rows)
            rows.append(
                {
                    "prompt_id": group,
                    "prompt": f"{group}: what is 2 + 2, “{number}”?",
                    "completion": f"{TEXTS[row % len(TEXTS)]} ({group}, {turn})",
                    # q7 has equal rewards.
                    "reward": 0.5 if group == "q7" else (row * 7 % 5) / 4,
                    "model": "small" if row % 3 else "large",
                    "answer": f"answer of {group}",
                }
            )
    rows[11]["reward"] = None
    return pl.DataFrame(rows)
