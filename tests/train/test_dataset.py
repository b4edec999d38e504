"""Names of columns that a reward function cannot be given: refused before anything is sampled."""

import pytest

from gspo_rs.rewards import score
from gspo_rs.rewards.functions import RewardError
from gspo_rs.train.config.config import Config
from gspo_rs.train.dataset import Dataset


@pytest.mark.parametrize("name", ["prompts", "completions"])
@pytest.mark.parametrize("key", ["prompts", "eval_prompts"])
def test_a_column_with_the_name_of_what_a_reward_function_is_given_is_refused_at_the_start(
    tmp_path, name, key
):
    (tmp_path / "good.jsonl").write_text('{"prompt": "a", "answer": "b"}\n')
    (tmp_path / "bad.jsonl").write_text(f'{{"prompt": "a", "{name}": "b"}}\n')
    given = {"prompts": str(tmp_path / "good.jsonl"), key: str(tmp_path / "bad.jsonl")}
    config = Config(model="m", reward="r.py:f", output_dir=str(tmp_path / "out"), **given)
    with pytest.raises(RewardError, match=rf"column '{name}' of .*bad\.jsonl .*; rename"):
        Dataset.open(config)


def test_the_column_of_the_prompts_may_have_any_name(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"prompts": "a", "answer": "b"}\n')
    source = str(tmp_path / "rows.jsonl")
    config = Config(
        model="m", reward="r.py:f", prompts=source, prompt="prompts", output_dir=str(tmp_path / "o")
    )
    assert Dataset.open(config).source.texts == ["a"]
    with pytest.raises(RewardError, match="column 'completions' of the prompts cannot go to"):
        score(lambda prompts, completions, **_: [0.0], ["p"], ["c"], {"completions": ["x"]})
