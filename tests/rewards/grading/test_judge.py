import itertools
import re

import polars as pl
import pytest

from fixtures.stub_server import Reply, StubServer, rate_limited, said
from gspo_rs.rewards.errors import GradingError, RewardError
from gspo_rs.rewards.grading.engine import Slice
from gspo_rs.rewards.grading.judge import JudgeEngine
from gspo_rs.rewards.grading.requests import Judge
from gspo_rs.rewards.grading.run import grade
from gspo_rs.rewards.judges.endpoint import Limits

RUBRIC = "Of {{ prompt }} with {{ answer }}, how good is <<{{ completion }}>>?"


def shown(request):
    """The completion that a request shows."""
    return re.search("<<(.*)>>", request.body["messages"][0]["content"], re.DOTALL)[1]


def scored(request):
    return said({"reason": "as it says", "score": float(shown(request))}, tokens=20)


def rows(completions, **more):
    n = len(completions)
    given = {"prompts": ["2 + 2"] * n, "columns": {"answer": ["4"] * n}, **more}
    return Slice(completions=completions, places=[f"row {row}" for row in range(n)], **given)


@pytest.fixture
def judge(tmp_path):
    (tmp_path / "rubric.txt").write_text(RUBRIC)

    def made(server, **options):
        limits = Limits(**{"retries": 1, "concurrency": 4, **options.pop("limits", {})})
        return Judge(server.url, "stub", tmp_path / "rubric.txt", limits=limits, **options)

    return made


def graded(judge, given, **options):
    engine = JudgeEngine(judge, **options)
    try:
        return engine.grade(given)
    finally:
        engine.close()


def test_a_reward_is_the_score_that_the_judge_gives_and_each_row_gets_its_own(judge):
    scores = [str(1 + place % 9) for place in range(40)]
    with StubServer(scored) as server:
        found = graded(judge(server), rows(scores))
    assert [grade.reward for grade in found] == [float(score) for score in scores]
    assert {(grade.status, grade.attempts) for grade in found} == {("ok", 1)}
    assert found[0].metrics == {"tokens": [20.0]}


def test_the_judge_sees_the_row_and_nothing_else_and_is_told_the_schema(judge):
    with StubServer(scored) as server:
        chat = [{"role": "user", "content": "2 + 2"}]
        answer = [{"role": "assistant", "content": "7"}]
        graded(judge(server), rows([answer], prompts=[chat]))
        (request,) = server.requests
    (message,) = request.body["messages"]
    assert message == {"role": "user", "content": "Of 2 + 2 with 4, how good is <<7>>?"}
    assert request.body["temperature"] == 0
    assert request.body["response_format"]["json_schema"]["strict"]


def test_one_row_fails_by_itself_with_its_status(judge):
    broken = {
        "11": said({"reason": "", "score": 11}),
        "nan": said('{"reason": "", "score": NaN}'),
        "words": said("It is good."),
        "429": rate_limited(),
        "500": Reply({"error": "down"}, 500),
    }
    with StubServer(lambda request: broken.get(shown(request)) or scored(request)) as server:
        found = graded(judge(server), rows(["3", *broken, "4"]))
    assert [grade.status for grade in found] == ["ok", *["parse"] * 3, "rate", "error", "ok"]
    assert [grade.reward for grade in found if grade.status == "ok"] == [3.0, 4.0]
    assert "outside of 1..10" in found[1].error
    assert found[4].attempts == 2
    assert all(grade.error and len(grade.error) <= 200 for grade in found[1:-1])


def test_a_reply_that_was_kept_is_not_asked_for_again_and_one_that_failed_is(judge, tmp_path):
    failing = iter([Reply({}, 400)])
    with StubServer(lambda request: next(failing, None) or scored(request)) as server:
        given = judge(server, cache=tmp_path / "cache", limits={"concurrency": 1})
        first, second = (graded(given, rows(["1", "2", "1"])) for _ in range(2))
        assert [grade.status for grade in first] == ["error", "ok", "ok"]
        assert [(grade.reward, grade.attempts) for grade in second] == [(1, 0), (2, 0), (1, 0)]
        assert len(server.requests) == 3


@pytest.mark.parametrize("other", ["model", "rubric", "scale", "max_tokens"])
def test_what_decides_about_a_score_makes_another_scorer_and_the_address_does_not(
    judge, tmp_path, other
):
    with StubServer(scored) as server, StubServer(scored) as elsewhere:
        given, moved = (judge(one, cache=tmp_path / "cache") for one in (server, elsewhere))
        options = {}
        scorers = [JudgeEngine(given).scorer, JudgeEngine(moved).scorer]
        graded(given, rows(["1"]))
        if other == "rubric":
            (tmp_path / "rubric.txt").write_text(RUBRIC + "!")
        elif other == "scale":
            options["scale"] = "0..10"
        else:
            moved = Judge(**{**vars(moved), other: {"model": "other", "max_tokens": 9}[other]})
        changed = JudgeEngine(moved, **options).scorer
        graded(moved, rows(["1"]), **options)
        assert scorers[0] == scorers[1] != changed
        assert len(elsewhere.requests) == 1  # what was kept is another's


def test_an_endpoint_that_refuses_all_ends_the_run_at_once(judge):
    with StubServer(lambda request: Reply({"error": {"message": "who?"}}, 401)) as server:
        with pytest.raises(GradingError, match="answered 401: who"):
            graded(judge(server), rows([str(row) for row in range(100)]))
        assert len(server.requests) <= 8


def test_a_place_of_the_rubric_that_the_rows_do_not_have_is_named_before_a_request(judge):
    with StubServer(scored) as server:
        with pytest.raises(RewardError, match=r"\{\{ answer \}\}.*--pass"):
            graded(judge(server), rows(["1"], columns={}))
        assert not server.requests


@pytest.mark.slow
def test_no_window_has_more_requests_than_the_rate_over_slices(judge):
    turns = itertools.cycle([True, True, False])
    with StubServer(lambda request: scored(request) if next(turns) else rate_limited()) as server:
        limits = {"rpm": 4, "concurrency": 8, "retries": 5}
        engine = JudgeEngine(judge(server, limits=limits, window=0.6))
        found = [grade for _ in range(2) for grade in engine.grade(rows(["5"] * 4))]
        engine.close()
        times = sorted(request.at for request in server.requests)
    assert {grade.status for grade in found} == {"ok"}
    assert all(b - a >= 0.6 for a, b in zip(times, times[4:], strict=False))


@pytest.mark.slow
def test_a_run_that_is_taken_up_counts_what_the_one_before_may_have_asked_for(judge, tmp_path):
    frame = pl.DataFrame({"prompt": "2 + 2", "answer": "4", "completion": ["5"] * 40})
    refused = Reply({"error": {"message": "who?"}}, 401)
    limits = {"rpm": 20, "concurrency": 8}

    def run(server, **options):
        engines = [JudgeEngine(judge(server, limits=limits, window=0.4))]
        grade(frame, tmp_path / "out", engines=engines, columns=["answer"], **options)

    with StubServer(scored) as server:

        def answer(request):
            return refused if 15 < len(server.requests) - begun < 30 else scored(request)

        for options in ({}, {"overwrite": True}):
            begun = len(server.requests)
            server._answer = answer
            with pytest.raises(GradingError, match="answered 401: who"):
                run(server, **options)
            begun, server._answer = len(server.requests), scored
            run(server, **options)
            times = sorted(request.at for request in server.requests[begun - 16 :])
            assert all(b - a >= 0.4 for a, b in zip(times, times[20:], strict=False))
