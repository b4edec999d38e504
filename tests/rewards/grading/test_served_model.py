"""Reward models behind a stub of a vLLM server that pools."""

import json
import math

import numpy as np
import pytest

from fixtures.stub_server import Reply, StubServer
from fixtures.tiny_models import write_reward_model
from gspo_rs.rewards.errors import GradingError, RewardError
from gspo_rs.rewards.grading.engine import Slice
from gspo_rs.rewards.grading.model import ModelEngine
from gspo_rs.rewards.grading.served_model import ServedModelEngine
from gspo_rs.rewards.judges.endpoint import Limits
from gspo_rs.samplers import calls

QUICK = Limits(retries=1)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(calls, "FIRST", 0.01)


@pytest.fixture(scope="module")
def folder(letters, tmp_path_factory):
    return write_reward_model(tmp_path_factory.mktemp("reward"), letters)


def served(folder, *, heeds=True, models=1, length=128, odd=lambda ids: None):
    """A server that runs the model of a folder."""
    engine = ModelEngine(folder)

    def answer(request):
        if request.path == "/version":
            return {"version": "0.32.0"}
        if request.path == "/v1/models":
            return {"data": [{"id": "served", "max_model_len": length}] * models}
        assert request.path == "/classify"
        assert request.body["model"] == "served"
        ids = request.body["input"]
        if (reply := odd(ids)) is not None:
            return reply
        (score,) = engine._scores([ids], 128, 1)
        squash = request.body["use_activation"] or not heeds
        found = 1 / (1 + math.exp(-score)) if squash else score
        return {"data": [{"index": 0, "label": "LABEL_0", "probs": [found], "num_classes": 1}]}

    return StubServer(answer)


def test_scores_are_the_logits_of_the_model_and_no_probabilities(folder):
    rows = Slice(["ab"] * 40, ["cdefgh"[: i % 6 + 1] * (i % 4 + 1) for i in range(40)])
    here = [grade.reward for grade in ModelEngine(folder).grade(rows)]
    with served(folder) as server:
        engine = ServedModelEngine(server.url, folder, QUICK)
        found = engine.grade(rows)
        engine.close()
    assert {grade.status for grade in found} == {"ok"}
    np.testing.assert_allclose([grade.reward for grade in found], here, atol=1e-5)
    assert min(here) < 0 or max(here) > 1


def test_a_server_that_gives_probabilities_whatever_it_is_asked_is_refused(folder):
    words = "does not know use_activation, and its scores may"
    with served(folder, heeds=False) as server, pytest.raises(GradingError, match=words):
        ServedModelEngine(server.url, folder, QUICK)


def test_a_server_of_another_kind_is_refused_by_what_it_says(folder):
    words = "is vLLM with --runner pooling"
    missing = StubServer(lambda request: Reply({"detail": "Not Found"}, 404))
    with missing as server, pytest.raises(GradingError, match=words):
        ServedModelEngine(server.url, folder, QUICK)
    words = "has 2 models; it has to have one"
    with served(folder, models=2) as server, pytest.raises(GradingError, match=words):
        ServedModelEngine(server.url, folder, QUICK)
    with pytest.raises(RewardError, match=r"has no config\.json"):
        ServedModelEngine("http://localhost:1", folder / "no", QUICK)


def test_a_row_that_fails_has_its_status_and_the_others_their_scores(folder):
    replies = {4: Reply({"error": {"message": "too odd"}}, 400), 5: Reply({}, 429)}
    replies |= {6: Reply(json.dumps({"data": [{"probs": [0.1, 0.2]}]}).encode())}
    texts = ["a" * n for n in (1, 2, 4, 5, 6, 7, 21)]
    with served(folder, length=20, odd=lambda ids: replies.get(len(ids))) as server:
        engine = ServedModelEngine(server.url, folder, QUICK)
        found = engine.grade(Slice(None, texts))
        engine.close()
    assert [grade.status for grade in found] == [
        "ok",
        "ok",
        "error",
        "rate",
        "error",
        "ok",
        "error",
    ]
    assert found[2].error == "answered 400: too odd"
    assert found[4].error.startswith("answered what cannot be read")
    assert found[6].error == "has 21 tokens; the model reads 1 to 20"
    assert [grade.attempts for grade in found[:5]] == [1, 1, 1, 2, 2]
