"""The Triton kernel of the linear head, in Triton's interpreter, and through its compiler."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).with_name("triton_cases.py")


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("triton"), reason="Triton is not installed")
def test_the_kernel_passes_its_cases_in_the_interpreter():
    # In a process of its own: Triton reads the variable when it is imported.
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(CASES)]
    run = subprocess.run(
        command, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout[-3000:]
    assert "100%" in run.stdout


COMPILE = """
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from gspo_rs.logprobs.triton_kernel import BLOCK, _row_kernel

pointers = "logits_at bias_at logprobs_at entropies_at residual_at".split()
constants = dict.fromkeys(["biased", "capped", "entropy", "residual"], True) | {"block": BLOCK}
for logits, residual in (("fp32", "bf16"), ("fp64", "fp64")):
    types = dict.fromkeys(_row_kernel.arg_names, "constexpr")
    types |= dict.fromkeys(pointers, "*" + logits)
    types |= {"targets_at": "*i64", "residual_at": "*" + residual}
    types |= {"stride": "i32", "words": "i32", "softcap": "fp32", "temperature": "fp32"}
    source = ASTSource(_row_kernel, signature=types, constexprs=constants)
    print(len(compile(source, target=GPUTarget("cuda", 90, 32)).asm["cubin"]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("triton"), reason="Triton is not installed")
def test_the_kernel_compiles_for_a_gpu_without_one(tmp_path):
    script = tmp_path / "compile_kernel.py"
    script.write_text(COMPILE)
    run = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert all(int(size) > 1000 for size in run.stdout.split())
