"""Files of other tools given to every verb without naming a column: as if each had been named."""

import json

import numpy as np
import polars as pl
import pytest

import gspo_rs as gs
from gspo_rs import data
from gspo_rs.files import summary

# Two prompts, three completions of each, in one step.
PROMPTS = ["2+2="] * 3 + ["3+3="] * 3
COMPLETIONS = ["4", "5", "6", "6", "7", "8"]
REWARDS = [1.0, 0.0, 0.5, 0.0, 1.0, 0.25]
PLAIN = pl.DataFrame(
    {"prompt_id": [0, 0, 0, 1, 1, 1], "prompt": PROMPTS, "response": COMPLETIONS, "reward": REWARDS}
)
TOOLS = {
    "TRL log": {
        "step": [7] * 6,
        "prompt": PROMPTS,
        "completion": COMPLETIONS,
        "accuracy_reward": REWARDS,
        "advantage": [0.0] * 6,
    },
    "TRL": {"prompt": PROMPTS, "completion": COMPLETIONS, "reward": REWARDS},
    "verl dump": {
        "input": PROMPTS,
        "output": COMPLETIONS,
        "gts": ["4"] * 3 + ["6"] * 3,
        "score": REWARDS,
        "step": [1] * 6,
    },
    "OpenRLHF": {"input": PROMPTS, "output": COMPLETIONS, "reward": REWARDS},
    "slime": {
        "group_index": [4, 4, 4, 9, 9, 9],
        "index": list(range(6)),
        "prompt": PROMPTS,
        "response": COMPLETIONS,
        "reward": [{"score": reward, "pred": "x"} for reward in REWARDS],
    },
}
SAID = {
    "TRL log": "read as TRL's log of completions: by step and prompt, reward accuracy_reward",
    "TRL": "read as TRL's prompts and completions: by prompt, reward reward",
    "verl dump": "read as a verl rollout dump: by step and input, reward score",
    "OpenRLHF": "read as samples of OpenRLHF: by input, reward reward",
    "slime": "read as rollouts of slime: by group_index, reward reward.score",
}
# What has other names in each tool, the keys of the group, is left out.
PAIR = ["prompt", "chosen", "rejected", "margin", "chosen_reward", "rejected_reward"]
BEST = ["prompt", "completion", "reward"]
VERBS = {
    "stats": lambda source, **by: (
        [one.to_dict() for one in gs.stats(source, **by)]
        if by
        else [one.to_dict() for one in summary.summarize(source)]
    ),
    "pairs": lambda source, **by: gs.pairs(source, **by).select(PAIR).to_dicts(),
    "best": lambda source, **by: gs.best(source, **by).select(BEST).to_dicts(),
    "filter": lambda source, **by: gs.filter(source, keep="top:0.4", **by).height,
    "nest": lambda source, **by: gs.nest(source, **by).height,
    "index": lambda source, **by: data.index_groups(source, **by).groups.offsets.tolist(),
    "rollouts": lambda source, **by: [
        (batch.prompts, batch.completions, batch.reward.tolist())
        for batch in data.rollouts(source, **by)
    ],
}


@pytest.fixture(params=TOOLS)
def tool(request, tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = pl.DataFrame(TOOLS[request.param]).to_dicts()
    path.write_text("\n".join(map(json.dumps, rows)))
    return request.param, path


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_needs_no_names_of_columns(tool, verb, caplog):
    name, path = tool
    given = {"completion": "response"} if verb == "rollouts" else {}
    expected = VERBS[verb](PLAIN, by="prompt_id", **given)
    caplog.clear()
    with caplog.at_level("INFO", "gspo_rs"):
        assert VERBS[verb](path) == expected
    (said,) = (one for one in caplog.messages if one.startswith("read as"))
    assert said.startswith(SAID[name])


def test_scores_need_no_names_of_columns(tool, tmp_path):
    name, path = tool
    if name == "TRL log":
        with pytest.raises(ValueError, match="has a column 'advantage' already"):
            gs.score(path, tmp_path / "out")
        return
    found = gs.scan(gs.score(path, tmp_path / "out").output).collect()
    expected = gs.scan(gs.score(PLAIN, tmp_path / "expected", by="prompt_id").output).collect()
    for column in ("rank", "percentile", "group_size"):
        assert found[column].to_list() == expected[column].to_list()
    assert np.array_equal(found.get_column("group_mean"), expected.get_column("group_mean"))


def test_the_report_needs_no_names_of_columns(tool, tmp_path):
    page = gs.report(tool[1], tmp_path / "page.html")
    assert page.is_file()


def test_prompts_are_found_under_the_name_that_a_tool_has_for_them(tool):
    assert data.prompts(tool[1]).texts == PROMPTS


def test_verl_needs_only_what_it_compares_with(tmp_path):
    dump = pl.DataFrame(TOOLS["verl dump"])
    found = gs.verl(dump, ground_truth="gts", data_source="sums")
    assert [row["ground_truth"] for row in found["reward_model"]] == ["4", "6"]


def test_what_is_given_wins_over_a_schema():
    dump = pl.DataFrame(TOOLS["verl dump"]).with_columns(other=pl.Series([1.0] * 6))
    assert gs.stats(dump, by="step")[0].groups == 1
    assert gs.stats(dump, reward="other")[0].mean == 1.0


def test_columns_of_no_tool_are_listed():
    frame = PLAIN.rename({"prompt_id": "question"}).drop("prompt")
    words = "nothing says which rows are of one prompt; .* It has 'question', 'response', 'reward'"
    for verb in VERBS.values():
        with pytest.raises(ValueError, match=words):
            verb(frame)


def test_a_file_is_located_once_for_the_schema_and_the_rows(monkeypatch, tmp_path):
    path = tmp_path / "rows.jsonl"
    pl.DataFrame(TOOLS["verl dump"]).write_ndjson(path)
    from gspo_rs.data import formats

    opened = []
    real = formats.TextFiles
    monkeypatch.setattr(formats, "TextFiles", lambda *a, **o: opened.append(a) or real(*a, **o))
    gs.pairs(path)
    assert len(opened) == 1


LISTS = {
    "plurals": {"prompt": PROMPTS[::3], "completions": [COMPLETIONS[:3], COMPLETIONS[3:]]}
    | {"rewards": [REWARDS[:3], REWARDS[3:]]},
    "OpenRLHF": {"input": PROMPTS[::3], "output": [COMPLETIONS[:3], COMPLETIONS[3:]]}
    | {"reward": [REWARDS[:3], REWARDS[3:]]},
    "distilabel": {"instruction": PROMPTS[::3], "generations": [COMPLETIONS[:3], COMPLETIONS[3:]]}
    | {"ratings": [REWARDS[:3], REWARDS[3:]], "generation_models": [["a", "b", "c"]] * 2},
}


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("verb", ["stats", "pairs", "best", "filter", "rollouts"])
def test_a_row_of_lists_of_a_tool_needs_no_names_of_columns(name, verb, tmp_path):
    pl.DataFrame(LISTS[name]).write_parquet(tmp_path / "rows.parquet")
    given = {"completion": "response"} if verb == "rollouts" else {}
    expected = VERBS[verb](PLAIN, by="prompt_id", **given)
    assert VERBS[verb](tmp_path / "rows.parquet") == expected
