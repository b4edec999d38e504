import json

import polars as pl
import pytest

from gspo_rs.rewards.workers import Workers

TASKS = ("leg_counting", "basic_arithmetic", "spell_backward", "rearc")
GYM = {"gym": "gspo_rs.rewards.library:reasoning_gym"}
# Of those whose scorers are in 0.1.25 as they were when the file was made: partial credit, boards,
# answers of several kinds.
SAME = ("leg_counting", "futoshiki", "letter_jumble", "rearc", "maze", "spell_backward", "gcd")
SEED = 45  # of the runs of the file


def test_answers_get_what_the_scorers_of_the_library_give_them():
    library = pytest.importorskip("reasoning_gym")
    rows, wanted = [], []
    for task in TASKS:
        dataset = library.create_dataset(task, size=3, seed=1)
        for entry in dataset:
            for answer in (entry["answer"], f"{entry['answer']}!", "7", ""):
                rows.append(
                    {
                        "prompts": [entry["question"]],
                        "completions": [f"So <answer>{answer}</answer>"],
                        "task": [task],
                        "entry": [json.dumps(entry)],
                    }
                )
                wanted.append(dataset.score_answer(answer, entry))
    rows.append({**rows[0], "entry": [None]})
    with Workers(GYM, 1, start_timeout=300) as workers:
        found = workers.grade("gym", rows)
    assert [grade.reward for grade in found[:-1]] == wanted
    assert found[-1].status == "none"
    assert {0.0, 1.0} <= {*wanted}


def rows_of(library, frame):
    """The rows of some answers, each with the entry that its prompt is of."""
    sets = {
        task: library.create_dataset(task, size=50, seed=SEED) for task in frame["task"].unique()
    }
    return [
        {
            "prompts": [one["prompt"]],
            "completions": [f"<answer>{one['model_answer']}</answer>"],
            "task": [one["task"]],
            "entry": [json.dumps(entry)],
            "wanted": [one["reward"]],
        }
        for one in frame.iter_rows(named=True)
        if (entry := sets[one["task"]][one["item"]])["question"] == one["prompt"]
    ]


@pytest.mark.slow
def test_real_answers_get_the_rewards_that_they_had_and_one_that_hangs_its_scorer_a_timeout(shared):
    library = pytest.importorskip("reasoning_gym")
    whole = pl.read_parquet(shared / "data" / "rg_easy.parquet").filter(
        pl.col("model_answer").is_not_null()
    )
    of_item = whole.filter(pl.col("item") == 0, pl.col("task").is_in(SAME))
    integral = (pl.col("task") == "intermediate_integration") & (pl.col("item") == 5)
    hanging = whole.filter(
        integral, pl.col("model_answer") == "(2/3)*cos(24*x - 6) + 2*cos(8*x - 2) + C"
    ).head(1)
    rows = rows_of(library, pl.concat([of_item, hanging]))
    with Workers(GYM, 1, timeout=10.0, start_timeout=300) as workers:
        *found, last = workers.grade("gym", rows)
    assert [grade.reward for grade in found] == [row["wanted"][0] for row in rows[:-1]]
    assert len({grade.reward for grade in found}) > 4
    assert {row["task"][0] for row in rows[:-1]} == {*SAME}
    assert last.status == "timeout"
