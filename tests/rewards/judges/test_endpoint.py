"""Real HTTP against a server on localhost that fails as servers fail."""

import asyncio
import itertools
import re

import pytest

from fixtures.stub_server import CUT, HANG, NONSENSE, Reply, StubServer, rate_limited, said
from fixtures.waiting import wait_until
from gspo_rs.rewards.errors import GradingError, RewardError
from gspo_rs.rewards.judges.endpoint import Endpoint, Failure, Limits, Said
from gspo_rs.samplers import calls

PAYLOAD = {
    "model": "stub",
    "max_tokens": 16,
    "messages": [{"role": "user", "content": "How good is it?"}],
}
FINE = said("fine")


def asked(server, times=1, *, window=60.0, payload=PAYLOAD, **limits):
    async def all_of_them():
        asking = Endpoint(server.url, Limits(**limits), window=window)
        try:
            return await asyncio.gather(*(asking.ask(payload) for _ in range(times)))
        finally:
            await asking.close()

    return asyncio.run(all_of_them())


def in_turn(*replies):
    left = itertools.chain(replies, itertools.repeat(replies[-1]))
    return lambda request: next(left)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(calls, "FIRST", 0.01)


def test_a_reply_is_what_the_model_said_and_the_key_goes_with_the_request(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    with StubServer(lambda request: said(f"seen {request.body['model']}", tokens=7)) as server:
        assert asked(server) == [Said("seen stub", 1, 7)]
        (request,) = server.requests
    assert request.path == "/v1/chat/completions"
    assert request.headers["Authorization"] == "Bearer secret"
    assert request.body == PAYLOAD


@pytest.mark.slow
@pytest.mark.parametrize(
    "failing",
    [
        rate_limited(),
        Reply({}, 500),
        Reply(b"", 502),
        Reply({}, 408),
        CUT,
        NONSENSE,
        HANG,
        Reply([]),
    ],
)
def test_a_failure_that_may_pass_is_tried_again_and_the_tries_are_counted(failing):
    with StubServer(in_turn(failing, failing, FINE)) as server:
        if failing is HANG:  # so late may come, on a busy machine, what does not hang
            (found,) = asked(server, retries=99, timeout=0.3)
            assert (found.text, found.attempts >= 3) == ("fine", True)
            return
        assert asked(server, retries=2, timeout=600.0) == [Said("fine", 3, 10)]
        assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("failing", "status", "error"),
    [
        (rate_limited(), "rate", "answered 429: slow down"),
        (Reply({"error": "no memory"}, 500), "error", "answered 500: no memory"),
        (NONSENSE, "error", "answered what cannot be read: <html>Bad gateway</html>"),
        (CUT, "error", "cannot be reached: RemoteProtocolError"),
        (HANG, "error", "no answer within 0.3 s"),
    ],
)
def test_after_the_last_try_the_failure_is_reported(failing, status, error):
    with StubServer(lambda request: failing) as server:
        (found,) = asked(server, retries=1, timeout=0.3 if failing is HANG else 600.0)
        assert (found.status, found.attempts) == (status, 2)
        assert found.error.startswith(error)
        wait_until(lambda: len(server.requests) == 2)


def test_a_server_that_is_not_there_is_an_error_of_the_row():
    with StubServer(lambda request: FINE) as server:
        pass
    (found,) = asked(server, retries=1)
    assert isinstance(found, Failure)
    assert found.status == "error"
    assert "ConnectError" in found.error


def test_a_request_that_is_wrong_is_not_sent_again():
    with StubServer(lambda request: Reply({"error": {"message": "too long"}}, 400)) as server:
        assert asked(server) == [Failure("error", "answered 400: too long", 1)]
        assert len(server.requests) == 1


@pytest.mark.parametrize("code", [401, 403, 404, 405])
def test_a_wrong_key_model_or_address_ends_the_run_and_shows_no_key(code, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    with (
        StubServer(lambda request: Reply({"error": {"message": "no"}}, code)) as server,
        pytest.raises(GradingError, match=rf"answered {code}: no; check the address") as raised,
    ):
        asked(server)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (said("so far", finish_reason="length"), "cut off by its limit"),
        (said(""), "said nothing"),
        (said(None, finish_reason="content_filter"), r"said nothing \(content_filter\)"),
        (Reply({"choices": [{"message": {"content": None, "refusal": "I won't"}}]}), "I won't"),
    ],
)
def test_a_reply_without_an_answer_is_unreadable_and_not_asked_for_again(reply, error):
    with StubServer(lambda request: reply) as server:
        (found,) = asked(server)
        assert found.status == "parse"
        assert re.search(error, found.error)
        assert len(server.requests) == 1


def test_a_wait_that_the_server_asks_for_is_kept():
    with StubServer(in_turn(rate_limited(0.4), FINE)) as server:
        asked(server)
        first, second = (request.at for request in server.requests)
    assert second - first >= 0.4


def most_in_a_window(times, window):
    """The most arrivals in any half-open window, each of which may begin with an arrival."""
    return max(sum(start <= other < start + window for other in times) for start in times)


@pytest.mark.slow
@pytest.mark.parametrize("rpm", [1, 5, 7])
def test_no_window_has_more_requests_than_the_rate_with_retries_counted(rpm):
    window = 0.5
    turns = itertools.cycle([FINE, FINE, rate_limited()])
    with StubServer(lambda request: next(turns), delay=0.02) as server:
        found = asked(server, 3 * rpm, window=window, rpm=rpm, concurrency=16, retries=9)
        times = sorted(request.at for request in server.requests)
    assert all(isinstance(one, Said) for one in found)
    assert most_in_a_window(times, window) <= rpm
    assert len(times) > 3 * rpm


@pytest.mark.slow
def test_no_window_has_more_tokens_than_the_rate():
    window, tokens, tpm = 0.5, 250, 1000
    with StubServer(lambda request: said("fine", tokens=tokens)) as server:
        asked(server, 10, window=window, tpm=tpm, concurrency=16)
        times = sorted(request.at for request in server.requests)
    assert most_in_a_window(times, window) <= tpm // tokens


def test_a_request_larger_than_a_minute_is_an_error_and_does_not_wait_for_ever():
    with StubServer(lambda request: FINE) as server:
        (found,) = asked(server, tpm=50)
        assert "more than a minute has (tpm)" in found.error
        assert not server.requests


def test_no_more_requests_are_open_than_asked_for():
    with StubServer(lambda request: FINE, delay=0.05) as server:
        asked(server, 12, concurrency=3)
        assert server.most_at_once <= 3
        assert len(server.requests) == 12


@pytest.mark.parametrize(
    "wrong", [{"concurrency": 0}, {"rpm": 0}, {"tpm": -1}, {"timeout": 0.0}, {"retries": -1}]
)
def test_limits_that_let_nothing_pass_are_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} of a judge"):
        Limits(**wrong)


def test_what_is_no_address_is_refused():
    with pytest.raises(RewardError, match="begins with http"):
        Endpoint("localhost:8000", Limits())
