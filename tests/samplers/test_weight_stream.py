"""Weights sent to a server by its engine for NCCL, with gloo in NCCL's place: no GPU is here."""

import ctypes
import ctypes.util

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from safetensors.torch import load_file

from fixtures.gloo_twin import GlooTwin
from fixtures.model_server import ModelServer
from fixtures.runs import share_of_a
from fixtures.tiny_models import write_letters
from fixtures.vllm_runs import RUN, vllm_engine
from gspo_rs.samplers import SamplerError, nccl, weight_stream
from gspo_rs.samplers.merged import checkpoint_weights, save_merged
from gspo_rs.train import metrics, train
from gspo_rs.train.config.config import Config, ConfigError, resolve
from gspo_rs.train.model import policy as policies

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def twin(monkeypatch):
    """Gloo in the place of NCCL, and chunks so small that there are several."""
    monkeypatch.setattr(weight_stream, "Communicator", GlooTwin)
    monkeypatch.setattr(weight_stream, "BYTES", 1000)


def loaded(folder, **more):
    return policies.load(resolve(Config(model=str(folder), prompts="p", reward="r", **more)))


def engine(server, tmp_path):
    return vllm_engine(server, tmp_path, by="nccl")


@pytest.mark.slow
def test_a_run_sends_the_weights_of_every_step_and_no_folder_is_written(letters, tmp_path, twin):
    model = ModelServer(letters, takes_stream=True)
    with model.served() as server:
        given = {**RUN, "model": str(letters), "reward": share_of_a, "temperature": 0.7}
        given |= {"sampler": f"vllm:{server.url}", "output_dir": str(tmp_path / "run")}
        result = train(**given, sampler_weights="nccl")
    assert model.versions == [0, 1, 2]
    assert model.chunks > 3 * 3
    for record in metrics.read(result.metrics_file):
        assert record["mismatch/abs"] < 1e-4


@pytest.mark.slow
def test_adapters_are_sent_merged(letters, tmp_path, twin):
    policy = loaded(letters, lora_r=2)
    for name, weight in policy.model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(std=0.2)
    model = ModelServer(letters, takes_stream=True, takes_adapters=True)
    with model.served() as server:
        sampler = engine(server, tmp_path)
        sampler.refresh(policy, 4)  # compares 20 tokens
        sampler.close()
    assert (model.versions, model.adapters) == ([4], {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("tied", [False, True])
def test_what_is_sent_is_what_the_files_of_a_checkpoint_have(tmp_path, tied):
    folder = write_letters(tmp_path / "model", tie_word_embeddings=tied)
    for more in ({}, {"lora_r": 2}):
        policy = loaded(folder, **more)
        save_merged(policy, tmp_path / "saved", None)
        saved = load_file(tmp_path / "saved" / "model.safetensors")
        sent = checkpoint_weights(policy, None)
        assert sent.keys() == saved.keys()
        for name, weight in saved.items():
            assert_array_equal(sent[name].numpy(), weight.numpy())


def test_a_mixture_of_experts_is_sent_by_the_names_of_its_checkpoint(tmp_path):
    sizes = {"num_local_experts": 4, "hidden_size": 16, "intermediate_size": 16, "vocab_size": 11}
    sizes |= {"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1}
    from transformers import MixtralConfig, MixtralForCausalLM

    write_letters(tmp_path / "model")
    MixtralForCausalLM(MixtralConfig(**sizes)).save_pretrained(tmp_path / "model")
    saved = load_file(tmp_path / "model" / "model.safetensors")
    sent = checkpoint_weights(loaded(tmp_path / "model"), None)
    assert any("experts.0.w1" in name for name in saved)
    assert sent.keys() == saved.keys()
    for name, weight in saved.items():
        assert_array_equal(sent[name].numpy(), weight.numpy())


def test_a_policy_on_a_cpu_is_refused_by_name(letters, tmp_path):
    with ModelServer(letters, takes_stream=True).served() as server:
        sampler = engine(server, tmp_path)
        with pytest.raises(
            SamplerError, match=r"'nccl' passes weights from a GPU .* is on cpu; lea"
        ):
            sampler.refresh(loaded(letters), 0)
        sampler.close()


def test_a_server_that_does_not_take_them_is_told_what_it_needs(letters, tmp_path, twin):
    with ModelServer(letters).served() as server:
        sampler = engine(server, tmp_path)
        with pytest.raises(SamplerError, match="not configured; the server needs a GPU of its own"):
            sampler.refresh(loaded(letters), 0)
        sampler.close()


@pytest.mark.slow
def test_a_server_that_fails_to_receive_ends_the_run_by_what_it_said(letters, tmp_path, twin):
    policy, model = loaded(letters), ModelServer(letters, takes_stream=True)
    with model.served() as server:
        sampler = engine(server, tmp_path)
        sampler.refresh(policy, 0)
        model.faults.add("stream")
        with pytest.raises(SamplerError, match="no room for the weights"):
            sampler.refresh(policy, 1)
        sampler.close()
    assert not model.paused


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"sampler": "transformers"}, "'nccl' is of a vLLM server, and sampler = 'transformers'"),
        ({"sampler": "vllm:http://a:1", "sampler_folder": "f"}, r"sampler_folder = '\S*f', and"),
    ],
)
def test_settings_that_make_no_sense_together_are_refused(fields, problem):
    given = {"model": "m", "prompts": [{"prompt": "a"}], "reward": share_of_a, "quiet": True}
    with pytest.raises(ConfigError, match=problem):
        train(**given, sampler_weights="nccl", **fields)


def test_chunks_end_with_the_tensor_that_passes_the_limit_as_vllm_has_them():
    draw = np.random.default_rng(0)
    tensors = [torch.zeros(int(size), dtype=torch.uint8) for size in draw.integers(0, 60, 200)]
    found = list(weight_stream.chunks(tensors, 100))
    assert [one for chunk in found for one in chunk] == tensors
    for chunk in found[:-1]:
        sizes = [one.nbytes for one in chunk]
        assert sum(sizes) > 100 >= sum(sizes[:-1])


@pytest.mark.skipif(
    ctypes.util.find_library("nccl") is None and not torch.version.cuda, reason="no NCCL"
)
def test_nccl_is_called_as_its_library_has_it_and_says_what_it_lacks():
    one, other = (nccl.Communicator.unique_id() for _ in range(2))
    assert (len(one), one != other) == (128, True)
    with pytest.raises(SamplerError, match="'nccl' passes weights from a GPU"):
        nccl.Communicator(one, 2, torch.device("cpu"))
    with pytest.raises(SamplerError, match=r"ncclCommInitRank failed: .*Each side needs a GPU"):
        nccl._checked("ncclCommInitRank", ctypes.byref(ctypes.c_void_p()), 0, nccl._UniqueId(), 0)
