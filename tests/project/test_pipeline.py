"""The six steps at a small size: a model of random letters learns to write more of one."""

import json
from runpy import run_path

import polars as pl
import pytest

from fixtures.places import ROOT


@pytest.mark.slow
def test_six_steps_from_prompts_make_a_policy_that_beats_its_start(letters, tmp_path):
    prompts = [{"prompt": first + second} for first in "abcd" for second in "efgh"]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(one) + "\n" for one in prompts))
    reward = tmp_path / "reward.py"
    reward.write_text("def a(completions, **_): return [completions[0].count('a') / 8]\n")
    main = run_path(str(ROOT / "examples" / "pipeline.py"))["main"]
    words = ["--model", letters, "--prompts", tmp_path / "prompts.jsonl", "--pass", ""]
    words += ["--reward", f"{reward}:a", "--output", tmp_path / "out", "--max-tokens", 8]
    assert main([*map(str, words), "--learning-rate", "1e-2", "--epochs", "4"]) == 0
    scored = pl.read_parquet(tmp_path / "out" / "scored" / "*.parquet")
    assert scored.height == 128
    assert {"percentile", "reward_a", "completion"} <= {*scored.columns}
    page = (tmp_path / "out" / "report.html").read_text()
    assert ">Grader<" in page
    assert not list((tmp_path / "out" / "start_grades").glob("*.tmp"))
