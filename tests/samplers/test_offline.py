"""Completions of prompts in files: what is written, taken up, and limited."""

import json
import re
import signal
import threading
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from fixtures.quick_server import QuickServer
from fixtures.runs import contents, process, wait_for
from fixtures.stub_server import NONSENSE, Reply, StubServer, rate_limited
from gspo_rs.data.ledgers import LEDGER
from gspo_rs.files.failures import FailureLimitError
from gspo_rs.samplers import SamplerError, offline
from gspo_rs.samplers.calls import Calls, RefusedError, UnansweredError
from gspo_rs.samplers.offline import sample

pytestmark = pytest.mark.slow
PROMPTS = pl.DataFrame({"prompt": [f"{i}+1=" for i in range(60)], "answer": range(1, 61)})


def answer(request, **more):
    """A completion that follows from prompt and seed."""
    if request.path.startswith("/v1/models"):
        return {"data": [{"id": "stub"}]}
    if not request.path.endswith("completions"):
        return {}
    body = request.body
    said = body.get("prompt") or body["messages"][-1]["content"]
    draw = np.random.default_rng([body.get("seed", 0), *said.encode()])
    tokens = draw.integers(0, 99, draw.integers(1, 9)).tolist()
    logprobs = (-draw.random(len(tokens))).round(4).tolist()
    choice = {"index": 0, "finish_reason": "stop" if len(tokens) < 8 else "length"}
    text = " ".join(map(str, tokens))
    if "prompt" in body:
        choice |= {"text": text, "logprobs": {"token_logprobs": logprobs}}
    else:
        content = [{"logprob": one} for one in logprobs]
        choice |= {"message": {"content": text}, "logprobs": {"content": content}}
    choice |= {"token_ids": tokens, "prompt_token_ids": list(said.encode()), **more}
    return {"choices": [choice]}


def rows_of(folder):
    return pl.read_parquet(Path(folder) / "part-*.parquet")


def parts(folder):
    return {name: data for name, data in contents(folder).items() if name.startswith("part-")}


async def at_once(seconds):
    """Do not wait between two calls."""


@pytest.fixture
def patient(monkeypatch):
    given = {**Calls.__init__.__kwdefaults__, "wait": at_once}
    monkeypatch.setattr(Calls.__init__, "__kwdefaults__", given)


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(offline, "ROWS", 20)


def test_each_completion_has_its_prompt_tokens_log_probabilities_and_seed(tmp_path):
    with StubServer(answer) as server:
        report = sample(PROMPTS, tmp_path / "out", endpoint=server.url, n=3, max_tokens=8)
    found = rows_of(tmp_path / "out")
    assert report.rows == found.height == 180
    assert report.tokens == found["completion_tokens"].list.len().sum()
    assert found["prompt_id"].to_list() == [i for i in range(60) for _ in range(3)]
    assert found["generation"].to_list() == [0, 1, 2] * 60
    assert (found["answer"] == found["prompt_id"] + 1).all()
    assert found["seed"].n_unique() == 180
    for row in found.iter_rows(named=True):
        assert row["completion"] == " ".join(map(str, row["completion_tokens"]))
        assert bytes(row["prompt_tokens"]).decode() == row["prompt"]
        assert len(row["logprobs"]) == len(row["completion_tokens"])
        assert (row["finish_reason"] == "length") == (len(row["completion_tokens"]) == 8)
    assert set(found["model"]) == {"stub"}
    body = server.requests[-1].body
    assert (body["n"], body["max_tokens"], body["temperature"]) == (1, 8, 1.0)


def test_messages_go_to_the_chat_of_the_endpoint(tmp_path):
    turns = [[{"role": "user", "content": f"{i}?"}] for i in range(3)]
    with StubServer(answer) as server:
        sample(pl.DataFrame({"prompt": turns}), tmp_path / "out", endpoint=server.url, n=2)
    assert {r.path for r in server.requests if r.body} == {"/v1/chat/completions"}
    assert rows_of(tmp_path / "out").height == 6


def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(tmp_path, small_parts):
    with StubServer(answer) as server:
        given = {"endpoint": server.url, "n": 3, "concurrency": 4}
        sample(PROMPTS, tmp_path / "whole", **given)
        asked = len(server.requests)

        def stops_after(number):
            seen = []

            def stopping(request):
                seen.append(request)
                return answer(request) if len(seen) < number else answer(request, token_ids=None)

            return stopping

        for number in (40, 30, 90):
            server._answer = stops_after(number)
            with pytest.raises(SamplerError, match="answers no token_ids"):
                sample(PROMPTS, tmp_path / "parts", **given)
        server._answer = answer
        report = sample(PROMPTS, tmp_path / "parts", **given)
        assert 0 < report.skipped < report.parts == 10
        assert parts(tmp_path / "parts") == parts(tmp_path / "whole")
        before = len(server.requests)
        again = sample(PROMPTS, tmp_path / "parts", **given)
        assert again.skipped == again.parts
        assert len(server.requests) - before == 1  # asks which model it has
        assert asked > 180


@pytest.mark.slow
def test_a_killed_command_goes_on_to_the_same_bytes(tmp_path):
    PROMPTS.write_ndjson(tmp_path / "prompts.jsonl")
    many = pl.concat([PROMPTS] * 20)
    many.write_parquet(tmp_path / "many.parquet")
    with StubServer(answer, delay=0.002) as server:
        words = ["sample", tmp_path / "many.parquet", "--endpoint", server.url, "--n", "2"]
        child = process(*words, "-o", tmp_path / "killed")
        ledger = tmp_path / "killed" / LEDGER
        # A part that is in place and not in the ledger yet would be made again.
        while not ledger.exists() or b"\n" not in ledger.read_bytes():
            assert child.poll() is None, child.communicate()[1]
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        child.communicate()
        child = process(*words, "-o", tmp_path / "killed", "--json")
        out, err = child.communicate()
        assert child.returncode == 0, err
        said = json.loads(out)
        assert (said["rows"], said["failed"]) == (2400, 0)
        assert said["skipped"] >= 1
        sample(many, tmp_path / "whole", endpoint=server.url, n=2)
    assert parts(tmp_path / "killed") == parts(tmp_path / "whole")


def rate_is_held(times, most, window):
    times = np.sort(times)
    return (np.searchsorted(times, times + window) - np.arange(len(times)) <= most).all()


def after(number, server, other):
    """An answer that is another from a request on."""
    return lambda request: (answer if len(server.requests) < number else other)(request)


def test_no_window_has_more_requests_than_the_rate(tmp_path):
    with StubServer(answer) as server:
        limits = {"rpm": 40, "window": 0.2, "concurrency": 30}
        sample(PROMPTS, tmp_path / "out", endpoint=server.url, n=2, **limits)
        assert len(server.requests) > 120
        assert rate_is_held([request.at for request in server.requests], 40, 0.2)


def test_what_may_pass_is_asked_again_and_what_does_not_has_no_row(tmp_path, patient):
    lock, count = threading.Lock(), [0]

    def failing(request):
        with lock:
            count[0] += 1
            odd = count[0] % 5
        if request.body.get("prompt") == "7+1=":
            return rate_limited()
        return {0: rate_limited(), 1: NONSENSE}.get(odd, answer(request))

    with StubServer(answer) as server:
        sample(PROMPTS, tmp_path / "calm", endpoint=server.url, n=2)
        server._answer = failing
        report = sample(PROMPTS, tmp_path / "out", endpoint=server.url, n=2, max_failed=2)
    assert (report.rows, report.failed) == (118, 2)
    assert report.retries > 20
    calm = rows_of(tmp_path / "calm").filter(pl.col("prompt") != "7+1=")
    assert rows_of(tmp_path / "out").equals(calm)


def test_an_endpoint_that_answers_nothing_ends_the_run(tmp_path, patient):
    with (
        StubServer(lambda request: rate_limited() if request.body else answer(request)) as server,
        pytest.raises(UnansweredError, match="in 12 calls; last: answered 429: slow down"),
    ):
        sample(PROMPTS, tmp_path / "out", endpoint=server.url)


def test_a_prompt_that_is_refused_fails_alone_and_more_than_may_end_the_run(tmp_path, small_parts):
    def strict(request):
        too_long = request.body.get("prompt") in ("7+1=", "41+1=")
        return Reply({"error": {"message": "too long"}}, 400) if too_long else answer(request)

    with StubServer(strict) as server:
        given = {"endpoint": server.url, "n": 2, "max_failed": "2%"}  # of 120
        with pytest.raises(FailureLimitError, match=r"3 completions failed, and 2 of 120 .*long"):
            sample(PROMPTS, tmp_path / "out", **given)
        report = sample(PROMPTS, tmp_path / "out", **{**given, "max_failed": 4})
    assert (report.rows, report.failed, report.skipped) == (116, 4, 4)
    assert rows_of(tmp_path / "out").height == 116
    assert FailureLimitError.exit_code == 3


def test_a_refused_key_ends_the_run_at_once(tmp_path):
    no = Reply({"error": {"message": "no key"}}, 401)
    with (
        StubServer(lambda request: no if request.body else answer(request)) as server,
        pytest.raises(RefusedError, match="answered 401: no key"),
    ):
        sample(PROMPTS, tmp_path / "out", endpoint=server.url, without=["seed"], max_failed="100%")


def test_the_bar_and_the_report_tell_what_an_endpoint_charges_for(tmp_path, monkeypatch):
    notes = []
    monkeypatch.setattr(offline.passes, "note", lambda bar, text: notes.append(text))
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    with StubServer(lambda request: answer(request) | {"usage": usage}) as server:
        report = sample(PROMPTS, tmp_path / "out", endpoint=server.url, n=2)
    assert (report.prompt_tokens, report.tokens) == (840, 360)
    assert re.fullmatch(r"840 tokens in, 360 out, [\d,]+ tokens/s", notes[-1])


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"logprobs": None}, "answers no logprobs, which training needs; .* --without logprobs"),
        ({"token_ids": None}, "answers no token_ids, .* --without token_ids"),
        ({"token_ids": [1]}, "answered . log-probabilities of 1 tokens; .* --without logprobs"),
    ],
)
def test_what_an_endpoint_does_not_give_is_refused_or_left_out(tmp_path, more, problem):
    with StubServer(lambda request: answer(request, **more)) as server:
        with pytest.raises(SamplerError, match=problem):
            sample(PROMPTS, tmp_path / "out", endpoint=server.url)
        name = "logprobs" if more.get("token_ids") else next(iter(more))
        sample(PROMPTS, tmp_path / "rest", endpoint=server.url, n=1, without=[name])
    found = rows_of(tmp_path / "rest")
    assert found[{"token_ids": "completion_tokens"}.get(name, name)].is_null().all()


def test_an_endpoint_that_ignores_seeds_is_refused_or_asked_without(tmp_path):
    draw = np.random.default_rng(0)

    def careless(request):
        if "seed" in request.body:
            request.body["seed"] = int(draw.integers(2**31))
        return answer(request)

    with StubServer(careless) as server:
        with pytest.raises(SamplerError, match=r"ignores seeds: one drew .* by --without seed"):
            sample(PROMPTS, tmp_path / "out", endpoint=server.url)
        sample(PROMPTS, tmp_path / "rest", endpoint=server.url, without=["seed"], n=1)
        assert "seed" not in server.requests[-1].body


def test_a_run_of_other_prompts_or_options_is_not_taken_up(tmp_path):
    with StubServer(answer) as server:
        sample(PROMPTS, tmp_path / "out", endpoint=server.url, n=2)
        with pytest.raises(ValueError, match="n was 2, is 3"):
            sample(PROMPTS, tmp_path / "out", endpoint=server.url, n=3)
        with pytest.raises(ValueError, match="whose rows was 60, is 59"):
            sample(PROMPTS[1:], tmp_path / "out", endpoint=server.url, n=2)


@pytest.mark.parametrize(
    ("frame", "options", "problem"),
    [
        (PROMPTS.with_columns(completion=pl.lit("x")), {}, "column 'completion', which is written"),
        (PROMPTS.with_columns(prompt_id=pl.lit(1)), {}, "prompt_id .* names some prompts twice"),
        (PROMPTS, {"endpoint": None}, r"give a model .* or the address of an endpoint"),
        (PROMPTS, {"endpoint": "localhost"}, "endpoint 'localhost' is no address"),
        (PROMPTS, {"without": ["seeds"]}, "without 'seeds': must be one of logprobs, token_ids"),
        (PROMPTS, {"n": 0}, "n = 0: must be at least 1"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(tmp_path, frame, options, problem):
    with pytest.raises(ValueError, match=problem):
        sample(frame, tmp_path / "out", **{"endpoint": "http://localhost:1", **options})
    assert not (tmp_path / "out").exists()


def test_a_model_here_draws_what_generate_draws_and_its_output_is_trained_on(letters, tmp_path):
    from gspo_rs.train import train

    frame = pl.DataFrame({"prompt": ["ab", "bc", "cd"]})
    how = {"model": str(letters), "n": 4, "max_tokens": 5, "seed": 3}
    sample(frame, tmp_path / "out", **how)
    found = rows_of(tmp_path / "out")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from gspo_rs.samplers.transformers import generate

    model = AutoModelForCausalLM.from_pretrained(letters)
    tokenizer = AutoTokenizer.from_pretrained(letters)
    more = {"num_generations": 4, "max_completion_length": 5, "seed": 3}
    drawn = generate(model, tokenizer, ["ab", "bc", "cd"], **more)
    assert found["completion"].to_list() == drawn.completions
    rows = map(drawn.sampler_logprobs.row, range(12))
    assert found["logprobs"].to_list() == [row.tolist() for row in rows]
    rewarded = found.with_columns(reward=pl.col("completion").str.count_matches("a"))
    result = train(
        model=str(letters),
        rollouts=rewarded,
        output_dir=str(tmp_path / "run"),
        completion_tokens_column="completion_tokens",
        prompt_tokens_column="prompt_tokens",
        old_logprobs_column="logprobs",
        truncated_column="finish_reason",
        max_steps=1,
        prompts_per_step=3,
        eval_size=0,
        quiet=True,
    )
    assert result.metrics["kl/old_k1"] == pytest.approx(0, abs=1e-5)


def test_a_run_that_is_taken_up_counts_what_the_one_before_may_have_asked_for(tmp_path):
    limits = {"rpm": 50, "window": 0.5, "concurrency": 30}
    with StubServer(answer) as server:
        server._answer = after(45, server, lambda request: answer(request, token_ids=None))
        with pytest.raises(SamplerError, match="answers no token_ids"):
            sample(PROMPTS, tmp_path / "out", endpoint=server.url, n=2, **limits)
        server._answer = answer
        sample(PROMPTS, tmp_path / "out", endpoint=server.url, n=2, **limits)
        assert rate_is_held([request.at for request in server.requests], 50, 0.5)


SAMPLE = """
import sys
from gspo_rs.samplers.offline import sample
sample(sys.argv[1], sys.argv[2], endpoint=sys.argv[3], rpm=int(sys.argv[4]), window=5.0)
"""


@pytest.mark.soak
def test_many_completions_at_a_limited_rate_survive_ten_kills(tmp_path):
    many = pl.concat([PROMPTS] * 209)[:12_500]
    many.write_parquet(tmp_path / "many.parquet")
    draw = np.random.default_rng(0)
    with QuickServer(answer) as server:
        words = (tmp_path / "many.parquet", tmp_path / "killed", server.url, 2500)
        for _ in range(10):
            child = process(*words, code=SAMPLE)
            end = len(server.times) + int(draw.integers(1, 12_000))
            wait_for(lambda end=end: len(server.times) >= end, child)
            child.kill()
            child.communicate()
        _, err = (child := process(*words, code=SAMPLE)).communicate()
        assert child.returncode == 0, err
        assert len(server.times) > 100_000
        assert rate_is_held(server.times, 2500, 5.0)
        sample(many, tmp_path / "whole", endpoint=server.url)
    assert rows_of(tmp_path / "whole").height == 100_000
    assert parts(tmp_path / "killed") == parts(tmp_path / "whole")
