import re

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from fixtures.stub_server import Reply, StubServer, said
from gspo_rs.groups.bradley_terry import bradley_terry
from gspo_rs.rewards.errors import RewardError
from gspo_rs.rewards.grading.engine import Slice
from gspo_rs.rewards.grading.pairwise import PairwiseEngine
from gspo_rs.rewards.grading.requests import Judge
from gspo_rs.rewards.judges.endpoint import Limits


def shown(request):
    return re.findall("<<(.*?)>>", request.body["messages"][0]["content"])


def by_number(request):
    a, b = map(int, shown(request))
    return verdict("A" if a > b else "B" if b > a else "tie")


def verdict(better):
    return said({"reason": "", "better": better})


@pytest.fixture(scope="module")
def rubric(tmp_path_factory):
    file = tmp_path_factory.mktemp("rubric") / "rubric.txt"
    file.write_text("Which answers {{ prompt }} better, A: <<{{ a }}>> or B: <<{{ b }}>>?")
    return file


def graded(rubric, answer, completions, groups, method="borda"):
    with StubServer(answer) as server:
        judge = Judge(server.url, "stub", rubric, limits=Limits(retries=0))
        engine = PairwiseEngine(judge, method)
        prompts = [f"prompt {group}" for group in groups]
        found = engine.grade(Slice(prompts, completions, groups=groups))
        engine.close()
    return found, server.requests


@pytest.mark.slow
@settings(max_examples=15, phases=[Phase.explicit, Phase.generate])
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4)), min_size=1, max_size=9))
def test_a_judge_that_sees_the_truth_gives_wins_less_defeats_over_the_others(rubric, cases):
    groups, values = map(list, zip(*cases, strict=True))
    found, requests = graded(rubric, by_number, [str(value) for value in values], groups)
    for group, value, grade in zip(groups, values, found, strict=True):
        others = [v for g, v in zip(groups, values, strict=True) if g == group]
        beaten = sum(v < value for v in others) - sum(v > value for v in others)
        assert grade.reward == pytest.approx(beaten / max(len(others) - 1, 1))
    sizes = np.unique(groups, return_counts=True)[1]
    assert len(requests) == (sizes * (sizes - 1)).sum()


def test_a_judge_that_prefers_what_it_sees_first_prefers_nothing_and_is_found_out(rubric):
    found, _ = graded(rubric, lambda request: verdict("A"), ["1", "2", "3"], [0, 0, 0])
    assert [grade.reward for grade in found] == [0.0, 0.0, 0.0]
    totals = {
        name: sum(sum(grade.metrics[name]) for grade in found)
        for name in ("first", "second", "compared", "disagree", "tokens")
    }
    expected = {"first": 6.0, "second": 0.0, "compared": 3.0, "disagree": 3.0, "tokens": 60.0}
    assert totals == expected


def test_strengths_are_those_of_the_model_for_the_wins_that_the_judge_gave(rubric):
    values, groups = ["3", "1", "3", "2", "7"], [0, 0, 0, 0, 1]
    found, _ = graded(rubric, by_number, values, groups, "bradley_terry")
    beats = [[(a > b) + 0.5 * (a == b) for b in values[:4]] for a in values[:4]]
    expected = [*bradley_terry([beats], group_size=4), 0.0]
    assert [grade.reward for grade in found] == expected
    assert found[0].reward == found[2].reward > found[3].reward > found[1].reward
    judge = Judge("http://localhost:1", "stub", rubric)
    with pytest.raises(RewardError, match="'elo' of comparisons is not known; there are borda"):
        PairwiseEngine(judge, "elo")
    assert PairwiseEngine(judge).scorer != PairwiseEngine(judge, "bradley_terry").scorer


def test_ties_are_no_disagreement(rubric):
    found, _ = graded(rubric, by_number, ["1", "1", "2"], [0, 0, 0])
    assert sum(sum(grade.metrics["disagree"]) for grade in found) == 0
    assert [grade.reward for grade in found] == [-0.5, -0.5, 1.0]


def test_a_comparison_that_fails_takes_its_two_rows_and_no_other(rubric):
    def answer(request):
        return Reply({}, 400) if shown(request) == ["1", "2"] else by_number(request)

    found, _ = graded(rubric, answer, ["1", "2", "3", "4", "1", "3"], [0, 0, 0, 0, 1, 1])
    assert [grade.status for grade in found] == ["error", "error", "ok", "ok", "ok", "ok"]
    np.testing.assert_allclose([grade.reward for grade in found[2:]], [1 / 3, 1, -1, 1])
    assert all("answered 400" in grade.error for grade in found[:2])


def test_a_lone_completion_has_nothing_to_win_and_takes_no_request(rubric):
    found, requests = graded(rubric, by_number, ["1"], [7])
    assert (found[0].status, found[0].reward, found[0].attempts) == ("ok", 0.0, 0)
    assert not requests


def test_comparisons_without_groups_are_refused(rubric):
    engine = PairwiseEngine(Judge("http://localhost:1", "stub", rubric))
    with pytest.raises(RewardError, match="name them with --by"):
        engine.grade(Slice(["p"], ["1"]))
