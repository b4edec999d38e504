"""Adapters of LoRA that go alone to a vLLM server, each version under a name of its own."""

import re
from contextlib import nullcontext

import pytest

from fixtures.model_server import ModelServer
from fixtures.runs import TWO_STEPS, expected, make, share_of_a, trained
from fixtures.stub_server import HANG, Reply
from fixtures.vllm_runs import RUN, drawn
from fixtures.vllm_runs import vllm_engine as engine
from gspo_rs.samplers import SamplerError, vllm
from gspo_rs.train import train
from gspo_rs.train.config.config import Config, resolve
from gspo_rs.train.config.toml import load
from gspo_rs.train.model import policy as policies
from gspo_rs.train.rollout.agreement import check_sampler

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


def test_adapters_alone_go_to_a_server_that_takes_them_and_the_oldest_are_forgotten(
    letters, tmp_path
):
    fields = {"prompts": "p", "reward": "r", "lora_r": 2}
    config = resolve(Config(model=str(letters), **fields))
    policy = policies.load(config)
    model = ModelServer(letters, takes_adapters=True)
    with model.served() as server:
        sampler = engine(server, tmp_path)
        for version in (4, 5, 6):
            for name, weight in policy.model.named_parameters():
                if "lora_B" in name:
                    weight.data.normal_(std=0.2)
            sampler.refresh(policy, version)  # compares 20 tokens
        found = drawn(sampler, policy)
        (home,) = tmp_path.iterdir()
        assert {folder.name for folder in home.glob("*/*")} == {"5", "6"}
        assert not list(home.glob("*/*/model*"))
        names = {name.rpartition("-")[2] for name in model.adapters}
        assert (model.versions, names) == ([4, 5, 6], {"5", "6"})
        assert model.version == "default"  # no weights but those of adapters
        model.adapters.clear()
        with pytest.raises(SamplerError, match=r"has the weights 'letters', .* step 6, .*-6'"):
            sampler.refresh(policy, 6)
        sampler.close()
    check_sampler(policy, found, config)
    assert set(found.policy_versions.values.tolist()) == {6}
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ends", ["whole", "error", "interrupt"])
def test_a_run_leaves_no_adapters_on_the_server_however_it_ends(letters, tmp_path, ends):
    model, seen = ModelServer(letters, takes_adapters=True), []

    def reward(completions, **_):
        seen.append(set(model.adapters))
        if len(seen) == 3 and ends != "whole":
            raise ValueError("no more") if ends == "error" else KeyboardInterrupt
        return share_of_a(completions)

    with model.served() as server:
        given = {**RUN, "model": str(letters), "reward": reward, "lora_r": 2}
        ended = {"whole": nullcontext(), "error": pytest.raises(Exception, match="no more")}
        with ended.get(ends, pytest.raises(KeyboardInterrupt)):
            train(**given, sampler=f"vllm:{server.url}", output_dir=str(tmp_path / "run"))
    assert len(seen[-1]) == 2
    assert not model.adapters


def test_a_server_that_does_not_answer_does_not_keep_a_run_from_its_end(
    letters, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(vllm, "PATIENCE", 0.1)
    policy = policies.load(resolve(Config(model=str(letters), prompts="p", reward="r", lora_r=2)))
    with ModelServer(letters, takes_adapters=True).served() as server:
        sampler = engine(server, tmp_path)
        sampler.refresh(policy, 5)
        server._answer = lambda request: HANG
        sampler.close()
    assert re.search(r"was not heard to forget the adapters \w+-5", caplog.text)


def test_a_run_that_goes_on_gives_the_adapters_of_a_version_anew(letters, tmp_path):
    policy = policies.load(resolve(Config(model=str(letters), prompts="p", reward="r", lora_r=2)))
    model = ModelServer(letters, takes_adapters=True)
    with model.served() as server:
        for _ in range(2):
            for name, weight in policy.model.named_parameters():
                if "lora_B" in name:
                    weight.data.normal_(std=0.2)
            sampler = engine(server, tmp_path)
            sampler.refresh(policy, 5)  # compares 20 tokens
            sampler._client.close()  # as one that is killed: it leaves all as it is
    assert model.versions == [5, 5]
    assert len(set(model.folders)) == 2  # else keys and values of the first would be taken


def test_a_run_with_adapters_ahead_of_training_knows_the_version_of_every_token(letters, tmp_path):
    model = ModelServer(letters, takes_adapters=True)
    with model.served() as server:
        settings = {**TWO_STEPS, "eval_size": 0, "max_steps": 5, "lora_r": 2, "max_staleness": 1}
        train(load(make(tmp_path, letters, **settings, sampler=f"vllm:{server.url}")))
    assert model.versions == list(range(5))
    assert trained(tmp_path / "run") == expected(10, size=2)
    assert not model.adapters


def test_adapters_that_a_server_refuses_are_told_with_what_it_has_to_be_started_with(
    letters, tmp_path
):
    policy = policies.load(resolve(Config(model=str(letters), prompts="p", reward="r", lora_r=2)))
    model = ModelServer(letters, takes_adapters=True)
    model._adapted = lambda path, body: Reply({"error": {"message": "rank too large"}}, 400)
    with model.served() as server:
        sampler = engine(server, tmp_path)
        with pytest.raises(SamplerError, match=r"rank too large; start it with .*-rank 2"):
            sampler.refresh(policy, 0)
        sampler.close()
