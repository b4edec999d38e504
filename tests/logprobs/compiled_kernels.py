"""Compile the Triton kernels for sm_90, and print registers, stack, loads and stores as JSON."""

import itertools
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from gspo_rs.logprobs.kernels import exponentials, own, ratios, rows

WARPS = {rows._row_kernel: 8, exponentials._product_kernel: exponentials.WARPS}
TYPES = {"fp32": torch.float32, "fp64": torch.float64}
STAGES = {exponentials._product_kernel: exponentials.STAGES}
INTEGERS = {"softcap": "i64", "temperature": "i64", "origin": "i64"}
NUMBERS = dict.fromkeys(("least", "most"), "fp32")
INDICES = ("targets_at", "words_at", "order_at", "ends_at", "lengths_at")
TOOL = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"


def source(kernel, types, constants, *, odd=()):
    """Return a kernel with the types of its pointers and what the launcher knows of its arguments.

    All pointers and sizes but those of the kernel's unaligned parts and `odd` are multiples of 16,
    as rows of an even width are.
    """
    names = [name for name in kernel.arg_names if name not in constants]
    number = types.pop("rest")
    pointers = {name: types.get(name, "*" + number) for name in names if name.endswith("_at")}
    pointers |= {name: "*i64" for name in INDICES if name in pointers}
    scalars = INTEGERS | NUMBERS | types
    signature = {name: pointers.get(name) or scalars.get(name, "i32") for name in names}
    unaligned = {name for name, kind in signature.items() if kind in ("i64", "fp32")} | {*odd}
    unaligned |= {*(kernel.do_not_specialize_on_alignment or ())}
    ones = {name: 1 for name in names if name == "column_stride"}
    even = [name for name in names if name not in unaligned and name not in ones]
    signature |= dict.fromkeys([*constants, *ones], "constexpr")
    return ASTSource(
        kernel,
        signature={name: signature[name] for name in kernel.arg_names},
        constexprs={**constants, **ones},
        attrs={(kernel.arg_names.index(name),): [["tt.divisibility", 16]] for name in even},
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


def made(kernel, types, constants, **options):
    """Compile a kernel; return what a thread takes, and how wide it reads and writes."""
    warps = WARPS.get(kernel, 4)
    given = source(kernel, types, constants, **options)
    chosen = {"num_warps": warps, "num_stages": STAGES.get(kernel, 3)}
    found = triton.compile(given, target=GPUTarget("cuda", 90, 32), options=chosen)
    assembly = found.asm["ptx"]
    widths = {
        name: Counter(re.findall(rf"{move}\.global\S*\.(v\d\.b\d+)", assembly))
        for name, move in {"loads": "ld", "stores": "st"}.items()
    }
    products = {"wgmma": len(re.findall(r"wgmma\.mma_async", assembly))}
    return resources(found.asm["cubin"]) | widths | products


def of_rows():
    """Compile each variant of the kernel of rows."""
    for logits, residual in (("fp32", "bf16"), ("fp32", "fp32"), ("fp64", "fp64")):
        apart = logits[2:] != residual[2:]
        for biased, known in itertools.product((False, True), (False, True) if apart else (False,)):
            flags = dict.fromkeys(("biased", "capped"), biased) | {"apart": apart, "known": known}
            block = rows.block_of(TYPES[logits], capped=biased)
            flags |= dict.fromkeys(("entropy", "residual"), True) | {"block": block}
            types = {"rest": logits, "residual_at": "*" + residual}
            found = made(rows._row_kernel, types, flags, odd=["words"])
            vectors = block // (32 * WARPS[rows._row_kernel]) * TYPES[logits].itemsize // 16
            name = f"{logits} {residual}" + " known" * known + " biased capped" * biased
            yield name, found | {"vectors": vectors}


def of_tokens():
    """Compile each variant of the kernels of the targets' own entries and of the slopes."""
    for kind in ("bf16", "fp16"):
        types = {"rest": "fp32", "hidden_at": "*" + kind, "weight_at": "*" + kind}
        scaled = {"scaled_at": "*bf16" if kind == "bf16" else "*fp32"}
        flags = {"backward": True, "head": True, "block": own.COLUMNS}
        yield f"scale {kind}", made(own._scale_kernel, types | scaled, flags)
        tile = dict(zip(("rows", "block"), own.TILE, strict=True))
        types = {"rest": "fp32", "hidden_at": "*" + kind}
        yield f"words {kind}", made(own._word_kernel, types, tile, odd=["tokens"])
    for kind in ("fp32", "fp64"):
        types = {"rest": kind, "old_at": "*fp32"}
        yield f"ratios {kind}", made(ratios._ratio_kernel, types, {"block": ratios.BLOCK})


def of_products():
    """Compile each variant of the kernels of the exponential in the product."""
    types = dict.fromkeys(("hidden_at", "weight_at", "found_at"), "*bf16")
    types |= {"rest": "fp32", "temperature": "fp32"}
    again = dict(zip(("again", "depth"), exponentials.AGAIN, strict=True))
    odd = ["words", "tokens", "parts"]
    target = made(exponentials._target_kernel, {**types}, {"block": 1024}, odd=odd)
    yield "target", target
    for entropy in (False, True):
        tile = zip(("rows", "block", "depth"), exponentials.tile_of(entropy=entropy), strict=True)
        flags = {**dict(tile), "entropy": entropy, "group": exponentials.GROUP}
        name = " entropy" * entropy
        yield "product" + name, made(exponentials._product_kernel, {**types}, flags, odd=odd)
        flags = again | {"entropy": entropy, "block": 1024}
        yield "finish" + name, made(exponentials._finish_kernel, {**types}, flags, odd=odd)


if __name__ == "__main__":
    every = {"rows": of_rows(), "tokens": of_tokens(), "products": of_products()}
    sys.stdout.write(json.dumps({name: dict(found) for name, found in every.items()}))
