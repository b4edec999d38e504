"""A vLLM server as the sampler of a run: a real model over real HTTP, and all that may be wrong."""

import re
import threading

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from fixtures.model_server import ModelServer
from fixtures.runs import share_of_a
from fixtures.stub_server import CUT, HANG, NONSENSE, Reply, StubServer, rate_limited
from fixtures.vllm_runs import RUN, drawn
from fixtures.vllm_runs import vllm_engine as engine
from fixtures.waiting import wait_until
from gspo_rs.samplers import SamplerError
from gspo_rs.samplers.calls import Calls, UnansweredError
from gspo_rs.samplers.client import Client
from gspo_rs.train import metrics, train
from gspo_rs.train.config.config import Config, ConfigError, resolve
from gspo_rs.train.model import policy as policies
from gspo_rs.train.rollout.agreement import check_sampler

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


@pytest.fixture
def policy(letters):
    return policies.load(resolve(Config(model=str(letters), prompts="p", reward="r")))


async def at_once(seconds):
    """Do not wait between two calls."""


@pytest.fixture
def patient(monkeypatch):
    given = {**Calls.__init__.__kwdefaults__, "wait": at_once}
    monkeypatch.setattr(Calls.__init__, "__kwdefaults__", given)


def test_a_run_with_a_server_learns_from_the_policy_of_every_step(letters, tmp_path):
    model = ModelServer(letters)
    with model.served() as server:
        given = {**RUN, "model": str(letters), "reward": share_of_a, "temperature": 0.7}
        sampler = f"vllm:{server.url}"
        result = train(**given, sampler=sampler, output_dir=str(tmp_path / "run"))
    assert model.versions == [0, 1, 2]
    for record in metrics.read(result.metrics_file):
        assert record["mismatch/abs"] < 1e-4
        assert record["sampler/failed"] == 0
    trained = policies.load(resolve(Config(model=str(result.final), prompts="p", reward="r")))
    # The server has the weights of before the last step.
    served = dict(model.model.named_parameters())
    assert any(
        not np.array_equal(weight.detach().numpy(), served[name].detach().numpy())
        for name, weight in trained.model.named_parameters()
    )


def test_completions_are_drawn_by_place_with_true_log_probabilities(letters, policy, tmp_path):
    with ModelServer(letters).served() as server:
        sampler = engine(server, tmp_path)
        sampler.refresh(policy, 7)
        found = drawn(sampler, policy, ("ab", "cd"), prompt_numbers=[4, 9])
        alone = drawn(sampler, policy, ("cd",), prompt_numbers=[9])
        sampler.close()
    assert found.select([1]).completions == alone.completions
    assert len(set(found.completions)) > 2
    assert set(found.policy_versions.values.tolist()) == {7}
    assert_array_equal(found.offsets, [0, 3, 6])
    config = resolve(Config(model=str(letters), prompts="p", reward="r"))
    check_sampler(policy, found, config)
    ended = [row[-1] == 0 for row in map(found.completion_tokens.row, range(6))]
    assert_array_equal(found.truncated, ~np.array(ended))
    assert not list(tmp_path.iterdir())


def test_a_stop_string_ends_a_completion_with_the_token_that_completes_it(
    letters, policy, tmp_path
):
    with ModelServer(letters).served() as server:
        sampler = engine(server, tmp_path)
        sampler.refresh(policy, 0)
        whole = drawn(sampler, policy, num_generations=20)
        found = drawn(sampler, policy, num_generations=20, stop="c")
    expected = [re.match(".*?c|.*", text)[0] for text in whole.completions]
    assert found.completions == expected != whole.completions


@pytest.mark.parametrize(
    ("faults", "problem"),
    [
        ({"logprobs"}, "answered without a log-probability for each token; start it as VLLM_SER"),
        ({"token_ids"}, "answered without token_ids; start it as VLLM_SERVER_DEV_MODE=1 python"),
        ({"raw"}, "do not know the temperature of 0.7: .* --logprobs-mode processed_logprobs"),
        ({"seed"}, "ignores the seed of a completion: two seeds drew one completion"),
        ({"generate"}, "/inference/v1/generate answered 404: Not Found; start it with --enable-sc"),
        ({"control"}, "/pause.* answered 404: Not Found; start it with VLLM_SERVER_DEV_MODE=1"),
        ({"version"}, "has the weights 'default', and was given those of step 5, .*-5'"),
    ],
)
def test_a_server_that_does_not_what_training_needs_is_refused_with_the_remedy(
    letters, tmp_path, faults, problem
):
    config = resolve(Config(model=str(letters), prompts="p", reward="r", temperature=0.7))
    policy = policies.load(config)
    with ModelServer(letters, faults).served() as server:
        sampler = engine(server, tmp_path)
        with pytest.raises(SamplerError, match=problem):
            sampler.refresh(policy, 5)
        sampler.close()


def test_a_server_that_did_not_read_the_weights_is_found_by_twenty_tokens(
    letters, policy, tmp_path
):
    with ModelServer(letters, {"weights"}).served() as server:
        sampler = engine(server, tmp_path)
        sampler.refresh(policy, 0)  # it has them from its start
        for weight in policy.model.parameters():
            weight.data *= 1.1
        with pytest.raises(SamplerError, match="was given the weights of step 1, and draws with"):
            sampler.refresh(policy, 1)


def test_a_server_that_was_started_anew_is_found_before_the_next_batch(letters, policy, tmp_path):
    model = ModelServer(letters)
    with model.served() as server:
        sampler = engine(server, tmp_path)
        sampler.refresh(policy, 3)
        sampler.refresh(policy, 3)
        assert model.versions == [3]
        model.version = "default"
        with pytest.raises(SamplerError, match=r"has the weights 'default', .* go on from"):
            sampler.refresh(policy, 3)


def test_another_model_or_tokenizer_is_refused_by_the_text_that_tells(letters, policy, tmp_path):
    other = tmp_path / "other"
    tokenizer = policy.tokenizer.__class__.from_pretrained(letters)
    tokenizer.add_tokens(["a b"])
    tokenizer.save_pretrained(other)
    with ModelServer(letters, tokenizer=other).served() as server:
        sampler = engine(server, tmp_path)
        with pytest.raises(SamplerError, match=r"another tokenizer: of .*a b.* it makes \["):
            sampler.refresh(policy, 0)
    small = ModelServer(letters)
    small.model.config.vocab_size = 10
    with small.served() as server:
        sampler = engine(server, tmp_path)
        with pytest.raises(SamplerError, match=r"does not know token 10 of the run's 11: .*400"):
            sampler.refresh(policy, 0)


def test_what_may_pass_is_asked_for_again_and_changes_nothing(letters, policy, tmp_path, patient):
    passing = [rate_limited(), CUT, NONSENSE, Reply({}, 503), rate_limited(7)]
    model = ModelServer(letters)
    with model.served() as server:
        sampler = engine(server, tmp_path)
        sampler.refresh(policy, 0)
        calm = drawn(sampler, policy)
        sampler.take_metrics()
        model.replies = {model.asked + 1 + place: one for place, one in enumerate(passing)}
        found = drawn(sampler, policy)
        assert sampler.take_metrics() == {"sampler/failed": [0.0], "sampler/retries": [5.0]}
    assert found.completions == calm.completions
    assert_array_equal(found.sampler_logprobs.values, calm.sampler_logprobs.values)


def test_a_server_that_is_busy_for_a_minute_loses_no_completion(
    letters, policy, tmp_path, monkeypatch
):
    waited = []

    async def wait(seconds):
        waited.append(seconds)

    given = {**Calls.__init__.__kwdefaults__, "wait": wait}
    monkeypatch.setattr(Calls.__init__, "__kwdefaults__", given)
    model = ModelServer(letters)
    with model.served() as server:
        sampler = engine(server, tmp_path)
        sampler.refresh(policy, 0)
        calm = drawn(sampler, policy, ("ab",), num_generations=1)
        server._answer = lambda request: (
            rate_limited() if sum(waited) < 60 else model.answer(request)
        )
        found = drawn(sampler, policy, ("ab",), num_generations=1)
    assert sum(waited) >= 60
    assert found.completions == calm.completions


def test_a_completion_that_is_never_answered_is_left_out_of_its_group_and_counted(
    letters, policy, tmp_path, patient
):
    model = ModelServer(letters)
    answer = model.answer
    with model.served() as server:
        sampler = engine(server, tmp_path)
        sampler.refresh(policy, 0)
        whole = drawn(sampler, policy)
        lost = {request.body["sampling_params"]["seed"] for request in server.requests[-2:]}
        sampler.take_metrics()

        def losing(request):
            seed = request.body.get("sampling_params", {}).get("seed")
            return rate_limited() if seed in lost else answer(request)

        server._answer = losing
        found = drawn(sampler, policy)
        assert sampler.take_metrics()["sampler/failed"] == [2.0]
    assert found.n_rollouts == 4
    kept = set(zip(whole.prompts, whole.completions, strict=True))
    assert set(zip(found.prompts, found.completions, strict=True)) <= kept


def test_a_server_that_is_gone_is_told_once_and_ends_the_run_by_name(
    letters, policy, tmp_path, patient, caplog
):
    with ModelServer(letters).served() as server:
        sampler = engine(server, tmp_path)
        sampler.refresh(policy, 0)
        server._answer = lambda request: CUT
        with pytest.raises(
            UnansweredError, match="in 12 calls; last: cannot be reached: RemoteProt"
        ):
            drawn(sampler, policy)
        assert caplog.text.count("cannot be reached") == 1
    with pytest.raises(SamplerError, match=r"no vLLM server is there: .* start it as VLLM_SERVER"):
        engine(server, tmp_path)


def test_an_answer_that_does_not_come_is_asked_for_three_times(patient):
    with StubServer(lambda request: HANG) as server:
        client = Client(server.url, timeout=0.2)
        with pytest.raises(UnansweredError, match=r"3 calls; last: no answer within 0.2 s"):
            client.get("/models")
        wait_until(lambda: len(server.requests) == 3)


def test_a_request_that_hangs_fails_when_the_sampler_is_closed():
    with StubServer(lambda request: HANG) as server:
        client = Client(server.url, timeout=60.0, wait=at_once)
        found = []

        def ask():
            try:
                client.get("/models")
            except SamplerError as error:
                found.append(str(error))

        asking = threading.Thread(target=ask)
        asking.start()
        while not server.requests:
            pass
        client.close()
        asking.join(20)
        assert not asking.is_alive()
        assert found


def test_prompts_beyond_the_context_of_the_server_are_refused_or_dropped(letters, policy, tmp_path):
    with ModelServer(letters, context=24).served() as server:
        sampler = engine(server, tmp_path)
        sampler.refresh(policy, 0)
        with pytest.raises(ValueError, match="row 1 has 20 tokens, the limit is 18"):
            drawn(sampler, policy, ("ab", "a" * 20))
        found = drawn(sampler, policy, ("ab", "a" * 20), on_long_prompt="drop")
    assert found.group_ids == [0]


def test_adapters_are_merged_for_the_server_and_stay_as_they_are(letters, tmp_path):
    fields = {"prompts": "p", "reward": "r", "lora_r": 2}
    policy = policies.load(resolve(Config(model=str(letters), **fields)))
    for name, weight in policy.model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(std=0.2)
    before = {name: weight.clone() for name, weight in policy.model.state_dict().items()}
    with ModelServer(letters).served() as server:
        sampler = engine(server, tmp_path)
        sampler.refresh(policy, 1)  # compares 20 tokens
        found = drawn(sampler, policy)
    check_sampler(policy, found, resolve(Config(model=str(letters), **fields)))
    for name, weight in policy.model.state_dict().items():
        assert_allclose(weight.numpy(), before[name].numpy(), rtol=0, atol=0)


def test_what_cuts_the_vocabulary_is_refused_with_a_server():
    with pytest.raises(ConfigError, match=r"top_p = 0\.9: a vLLM server answers log-prob"):
        train(**RUN, model="m", reward=share_of_a, sampler="vllm:http://localhost:1", top_p=0.9)
