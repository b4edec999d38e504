"""Compile the Triton kernels for sm_90, and print registers, stack, loads and stores as JSON."""

import itertools
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from gspo_rs.logprobs import triton_kernel

THREADS = 256
POINTERS = [
    *("logits_at", "bias_at", "targets_at", "near_at", "logprobs_at", "entropies_at"),
    *("residual_at", "factors_at", "own_at"),
]
EVEN = ("stride", "pitch", "room", "space")
"""Multiples of 16, of the narrow residual and its logits whatever the number of words is."""
TOOL = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"


def source(kernel, logits, residual, *, flags):
    """Return a kernel with its types, and what the launcher tells of divisibility by 16."""
    types = dict.fromkeys(kernel.arg_names, "constexpr")
    types |= dict.fromkeys(POINTERS, "*" + logits)
    types |= {"targets_at": "*i64", "residual_at": "*" + residual}
    types |= dict.fromkeys(("softcap", "temperature"), "i64")
    types |= dict.fromkeys(("least", "most"), "fp32") | dict.fromkeys(EVEN, "i32")
    types["words"] = "i32"
    constants = {**flags, "block": triton_kernel.BLOCK}
    even = [[*types].index(name) for name in ("logits_at", "bias_at", "residual_at", *EVEN)]
    return ASTSource(
        kernel,
        signature=types,
        constexprs=constants,
        attrs={(place,): [["tt.divisibility", 16]] for place in even},
    )


def resources(cubin):
    """Return what the assembler says of registers and memory of a thread."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [TOOL, "--dump-resource-usage", file.name]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = {name: int(value) for name, value in re.findall(r"(\w+):(\d+)", said)}
    return {"registers": found["REG"], "stack": found["STACK"], "local": found["LOCAL"]}


def main():
    """Compile each variant."""
    found = {}
    for logits, residual in (("fp32", "bf16"), ("fp32", "fp32"), ("fp64", "fp64")):
        apart = logits[2:] != residual[2:]
        for biased, known in itertools.product((False, True), (False, True) if apart else (False,)):
            flags = dict.fromkeys(("biased", "capped"), biased) | {"apart": apart, "known": known}
            flags |= dict.fromkeys(("entropy", "residual"), True)
            given = source(triton_kernel._row_kernel, logits, residual, flags=flags)
            made = triton.compile(given, target=GPUTarget("cuda", 90, 32), options={"num_warps": 8})
            moves = {"loads": "ld", "stores": "st"}
            assembly = made.asm["ptx"]
            widths = {
                name: Counter(re.findall(rf"{move}\.global\S*\.(v\d\.b\d+)", assembly))
                for name, move in moves.items()
            }
            bytes_per_thread = triton_kernel.BLOCK // THREADS * (4 if logits == "fp32" else 8)
            name = f"{logits} {residual}" + " known" * known + " biased capped" * biased
            widths["vectors"] = bytes_per_thread // 16
            found[name] = resources(made.asm["cubin"]) | widths
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
