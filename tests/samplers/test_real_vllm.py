"""A real vLLM server on the CPU: `make vllm` names its interpreter and runs this.

With `GSPO_RS_CHAT_MODEL`, the folder of a small chat model in float32, it is trained as well.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import httpx2
import polars as pl
import pytest

from fixtures.commands import MAIN
from fixtures.gloo_twin import GlooTwin
from fixtures.places import ROOT
from fixtures.processes import torchrun
from fixtures.runs import expected, make, records, share_of_a, trained
from fixtures.tiny_models import write_letters
from gspo_rs.samplers import SamplerError, weight_stream
from gspo_rs.samplers.offline import sample
from gspo_rs.samplers.vllm import Vllm
from gspo_rs.train import metrics, train
from gspo_rs.train.config.config import Config, resolve
from gspo_rs.train.config.toml import load
from gspo_rs.train.model import policy as policies
from gspo_rs.train.rollout.agreement import check_sampler

INTERPRETER = os.environ.get("GSPO_RS_VLLM")
CHAT_MODEL = os.environ.get("GSPO_RS_CHAT_MODEL")
pytestmark = pytest.mark.skipif(INTERPRETER is None, reason="needs vLLM; run `make vllm`")
FIXTURES = ROOT / "tests" / "fixtures"
SECONDS = 1500  # for a server to start on a busy machine


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """The model of letters with a head dimension of 32, the least that vLLM takes."""
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "head_dim": 32}
    return write_letters(tmp_path_factory.mktemp("wide"), **sizes)


def twin_plugin(folder):
    """Write what vLLM takes for an installed plugin: its engine for NCCL then runs over gloo."""
    for name in ("gloo_twin.py", "vllm_twin.py"):
        shutil.copy(FIXTURES / name, folder)
    made = folder / "gspo_rs_twin-1.dist-info"
    made.mkdir()
    (made / "METADATA").write_text("Name: gspo-rs-twin\nVersion: 1\n")
    (made / "entry_points.txt").write_text("[vllm.general_plugins]\ntwin = vllm_twin:install\n")


def started(model, log, mode="processed_logprobs", context=64, more=(), twin=False):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = [INTERPRETER, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)]
    server += ["--dtype", "float32", "--enable-scale-out", "--logprobs-mode", mode]
    server += ["--host", "127.0.0.1", "--port", str(port), "--max-model-len", str(context)]
    given = {"VLLM_SERVER_DEV_MODE": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1"}
    given |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_NO_USAGE_STATS": "1"}
    given |= {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(log.parent) if twin else ""}
    given |= {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"} if "--enable-lora" in more else {}
    if twin:
        twin_plugin(log.parent)
    child = subprocess.Popen(
        [*server, *more, "--enforce-eager"],
        env={**os.environ, **given},
        stdout=log.open("w"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    return child, f"http://127.0.0.1:{port}"


def wait_for(child, url, log):
    deadline = time.monotonic() + SECONDS
    while True:
        assert child.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        try:
            if httpx2.get(f"{url}/health", trust_env=False).status_code == 200:
                return
        except httpx2.TransportError:
            time.sleep(0.5)


@pytest.fixture(scope="module")
def started_with(tmp_path_factory):
    """Starts a server, in place of the one before unless that is the same: each takes 4 GB."""
    running = {}

    def stop():
        if running:
            os.killpg(running["child"].pid, signal.SIGTERM)
            running["child"].wait()
            running.clear()

    def start(model, **how):
        if running.get("how") != (model, how):
            stop()
            log = tmp_path_factory.mktemp("server") / "log"
            child, url = started(model, log, **how)
            running.update(child=child, url=url, how=(model, how))
            wait_for(child, url, log)
        return running["url"]

    yield start
    stop()


@pytest.fixture
def server(started_with, wide):
    return started_with(wide)


@pytest.fixture
def raw_server(started_with, wide):
    return started_with(wide, mode="raw_logprobs")


@pytest.fixture
def lora_server(started_with, wide):
    return started_with(wide, more=["--enable-lora", "--max-loras", "2"])


@pytest.fixture
def nccl_server(started_with, wide):
    return started_with(wide, more=["--weight-transfer-config", '{"backend": "nccl"}'], twin=True)


@pytest.fixture
def chat_server(started_with):
    if CHAT_MODEL is None:
        pytest.skip("needs a chat model; name its folder in GSPO_RS_CHAT_MODEL")
    return started_with(CHAT_MODEL, context=128)


def length_of(completions, **_):
    return [len(message["content"]) / 10 for (message,) in completions]


def test_a_run_draws_with_the_weights_of_every_step(server, wide, tmp_path):
    result = train(
        model=str(wide),
        prompts=[{"prompt": text} for text in ("ab", "bc", "cd", "de")],
        reward=share_of_a,
        output_dir=str(tmp_path / "run"),
        sampler=f"vllm:{server}",
        temperature=0.7,
        max_completion_length=12,
        prompts_per_step=4,
        steps_per_generation=1,
        max_steps=5,
        learning_rate=3e-3,
        eval_size=0,
        quiet=True,
    )
    for record in metrics.read(result.metrics_file):
        assert record["mismatch/abs"] < 1e-4
        assert record["sampler/failed"] == 0
    label = httpx2.get(f"{server}/weight_info", trust_env=False).json()["weight_version"]
    assert label.endswith("-4")


def test_a_run_ahead_of_training_loses_no_completion_and_knows_the_version_of_each_token(
    server, wide, tmp_path
):
    settings = {"max_staleness": 2, "steps_per_generation": 1, "eval_size": 0, "max_steps": 10}
    settings |= {"sampler": f"vllm:{server}", "learning_rate": 3e-3, "max_completion_length": 24}
    train(load(make(tmp_path, wide, **settings)))
    assert trained(tmp_path / "run") == expected(20)
    lines = records(tmp_path / "run")
    assert {line["sampler/failed"] for line in lines if "sampler/failed" in line} == {0}
    assert 0 < max(line["async/staleness_max"] for line in lines) <= 2


def test_two_processes_that_train_one_policy_draw_with_one_server(server, wide, tmp_path):
    settings = {"steps_per_generation": 1, "eval_size": 0, "max_steps": 5, "learning_rate": 3e-3}
    path = make(tmp_path, wide, sampler=f"vllm:{server}", **settings)
    words = ["--no-python", sys.executable, "-c", MAIN, "train", path]
    ended = torchrun(2, *words, timeout=SECONDS)
    assert ended.returncode == 0, ended.stderr
    assert trained(tmp_path / "run") == expected(10)
    for line in records(tmp_path / "run"):
        assert line["mismatch/abs"] < 1e-4
        assert line["sampler/failed"] == 0


def test_adapters_and_completions_have_the_log_probabilities_of_the_policy(server, wide, tmp_path):
    fields = {"prompts": "p", "reward": "r", "lora_r": 2, "temperature": 1.3}
    config = resolve(Config(model=str(wide), **fields))
    policy = policies.load(config)
    for name, weight in policy.model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(std=0.2)
    sampler = Vllm(server, timeout=60.0, folder=tmp_path, name="adapters")
    try:
        sampler.refresh(policy, 9)
        options = {"num_generations": 4, "max_completion_length": 20, "temperature": 1.3}
        found = sampler.generate(policy, ["ab", "cde"], seed=1, **options)
        again = sampler.generate(policy, ["ab", "cde"], seed=1, stop="c", **options)
    finally:
        sampler.close()
    check_sampler(policy, found, config)
    assert set(found.policy_versions.values.tolist()) == {9}
    assert found.n_rollouts == 8
    for stopped in again.completions:
        assert stopped.count("c") <= 1


def test_completions_of_prompts_in_files_come_with_tokens_and_log_probabilities(server, tmp_path):
    frame = pl.DataFrame({"prompt": ["ab", "cde"]})
    how = {"endpoint": server, "n": 3, "max_tokens": 6}
    report = sample(frame, tmp_path / "out", **how)
    found = pl.read_parquet(tmp_path / "out" / "part-*.parquet")
    assert (report.rows, report.failed) == (6, 0)
    assert (found["logprobs"].list.len() == found["completion_tokens"].list.len()).all()
    assert found["prompt_tokens"].list.len().to_list() == [2] * 3 + [3] * 3
    assert sample(frame, tmp_path / "again", **how).tokens == report.tokens


def test_a_server_that_was_not_started_for_nccl_says_so(server, wide, tmp_path, monkeypatch):
    monkeypatch.setattr(weight_stream, "Communicator", GlooTwin)
    sampler = Vllm(server, timeout=60.0, folder=tmp_path, name="no", by="nccl")
    config = resolve(Config(model=str(wide), prompts="p", reward="r"))
    with pytest.raises(SamplerError, match="the server needs a GPU of its own and --weight-trans"):
        sampler.refresh(policies.load(config), 0)
    sampler.close()


def test_raw_log_probabilities_are_refused_at_another_temperature(raw_server, wide, tmp_path):
    config = resolve(Config(model=str(wide), prompts="p", reward="r", temperature=0.7))
    sampler = Vllm(raw_server, timeout=60.0, folder=tmp_path, name="raw")
    with pytest.raises(SamplerError, match="start it with --logprobs-mode processed_logprobs"):
        sampler.refresh(policies.load(config), 0)
    sampler.close()


def test_adapters_go_alone_to_a_server_that_takes_them(lora_server, wide, tmp_path):
    settings = {"steps_per_generation": 1, "eval_size": 0, "max_steps": 5, "learning_rate": 3e-2}
    settings |= {"lora_r": 4, "temperature": 0.7, "sampler_folder": str(tmp_path / "passed")}
    train(load(make(tmp_path, wide, sampler=f"vllm:{lora_server}", **settings)))
    for line in records(tmp_path / "run"):
        assert line["mismatch/abs"] < 1e-4
        assert line["sampler/failed"] == 0
    found = httpx2.get(f"{lora_server}/v1/models", trust_env=False).json()["data"]
    assert [one["id"] for one in found] == [str(wide)]  # they are forgotten in the end


def test_weights_go_by_the_engine_for_nccl_of_a_server_that_has_gloo_in_its_place(
    nccl_server, wide, tmp_path, monkeypatch
):
    monkeypatch.setattr(weight_stream, "Communicator", GlooTwin)
    monkeypatch.setattr(weight_stream, "BYTES", 50_000)  # so that there are several chunks
    settings = {"steps_per_generation": 1, "eval_size": 0, "max_steps": 5, "learning_rate": 3e-3}
    settings |= {"sampler": f"vllm:{nccl_server}", "sampler_weights": "nccl", "temperature": 0.7}
    for name, more in (("whole", {}), ("adapters", {"lora_r": 2})):
        train(load(make(tmp_path / name, wide, **settings, **more)))
        for line in records(tmp_path / name / "run"):
            assert line["mismatch/abs"] < 1e-4
            assert line["sampler/failed"] == 0
    label = httpx2.get(f"{nccl_server}/weight_info", trust_env=False).json()["weight_version"]
    assert label.endswith("-4")


def test_a_chat_model_with_adapters_has_the_log_probabilities_of_its_server(chat_server, tmp_path):
    asked = ("Name a colour.", "What is 2 + 3?")
    result = train(
        model=CHAT_MODEL,
        prompts=[{"prompt": [{"role": "user", "content": one}]} for one in asked],
        reward=length_of,
        output_dir=str(tmp_path / "run"),
        sampler=f"vllm:{chat_server}",
        lora_r=4,
        num_generations=2,
        max_completion_length=12,
        prompts_per_step=2,
        steps_per_generation=1,
        max_steps=3,
        learning_rate=1e-3,
        eval_size=0,
        quiet=True,
    )
    lines = metrics.read(result.metrics_file)
    assert [line["step"] for line in lines] == [1, 2, 3]
    for line in lines:
        assert line["mismatch/abs"] < 1e-4
        assert line["sampler/failed"] == 0
