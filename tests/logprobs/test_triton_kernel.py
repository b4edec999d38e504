"""The Triton kernels of the head: in Triton's interpreter, on a GPU, and compiled for one."""

import importlib.util
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from gspo_rs.logprobs import launch

HERE = Path(__file__).parent
needs_triton = pytest.mark.skipif(
    not importlib.util.find_spec("triton"), reason="Triton is not installed"
)


def run_cases(interpreted, marked="not soak"):
    # In a process of its own: Triton reads the variable when it is imported.
    environment = {**os.environ, "TRITON_INTERPRET": "1" if interpreted else "0"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-m", marked]
    command += sorted(HERE.glob("triton_*cases.py"))
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-3000:]
    assert "100%" in run.stdout


@pytest.mark.slow
@needs_triton
def test_the_kernel_passes_its_cases_in_the_interpreter():
    run_cases(interpreted=True)


@pytest.mark.soak
@needs_triton
def test_the_kernel_passes_all_cases_in_the_interpreter():
    run_cases(interpreted=True, marked="soak or not soak")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")
def test_the_kernel_passes_its_cases_on_a_gpu():
    run_cases(interpreted=False)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """What the compiler makes of the kernels for sm_90, by variant."""
    run = subprocess.run(
        [sys.executable, HERE / "compiled_kernels.py"],
        env={**os.environ, "TRITON_CACHE_DIR": str(tmp_path_factory.mktemp("triton"))},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout)


@pytest.mark.slow
@needs_triton
def test_compiled_for_a_gpu_no_kernel_spills_registers_and_programs_share_a_multiprocessor(
    compiled,
):
    for room, kernels in compiled.items():
        for name, found in kernels.items():
            assert (found["local"], found["stack"]) == (0, 0), name
            # Three programs of 256 threads share the 65 536 registers of a multiprocessor, two of
            # those in float64. A product fills it.
            if room != "products":
                assert found["registers"] <= (128 if "fp64" in name else 80), name


@pytest.mark.slow
@needs_triton
def test_compiled_for_a_gpu_rows_of_any_vocabulary_are_read_and_written_16_bytes_at_a_time(
    compiled,
):
    for name, found in compiled["rows"].items():
        wide = "v4.b32" if name.startswith("fp32") else "v2.b64"
        passes = 3 if "known" in name else 2  # one read, or else the two of before
        assert found["loads"][wide] == passes * found["vectors"], name
        assert found["stores"].get("v4.b32" if "bf16" in name else wide, 0) > 0, name
    for name, found in compiled["tokens"].items():
        assert name.startswith("ratios") or found["loads"]["v4.b32"] >= 2, name
        assert not name.startswith("scale") or found["stores"]["v4.b32"] >= 6, name


@pytest.mark.slow
@needs_triton
def test_compiled_for_a_gpu_exponentials_come_out_of_a_product_of_warp_groups(compiled):
    for name, found in compiled["products"].items():
        assert (found["wgmma"] > 0) == name.startswith("product"), name
        assert not name.startswith("product") or found["stores"]["v4.b32"] > 0, name


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch finds a CUDA device")
def test_where_a_kernel_cannot_be_launched_it_is_said_once_and_pytorch_takes_its_place():
    launch._launched.cache_clear()
    device = torch.device("cuda:0")
    with pytest.warns(UserWarning, match=r"cannot be launched on cuda:0, .*: \w+Error: \w+"):
        assert launch.kernels_on(device) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert launch.kernels_on(device) is None
        assert launch.kernels_on(torch.device("cpu")) is None
