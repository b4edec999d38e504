import json

import pytest

from gspo_rs.rewards.workers import Workers

TASKS = ("leg_counting", "basic_arithmetic", "spell_backward")


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
    with Workers({"gym": "gspo_rs.rewards.library:reasoning_gym"}, 1, start_timeout=300) as workers:
        found = workers.grade("gym", rows)
    assert [grade.reward for grade in found[:-1]] == wanted
    assert found[-1].status == "none"
    assert {0.0, 1.0} <= {*wanted}
