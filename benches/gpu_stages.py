"""The stages of `gpu_once.py` that measure the head; each yields a row as soon as it is known."""

from __future__ import annotations

import argparse
import importlib.util
import platform
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from gpu_cases import DATA, Sizes, batch, exact_gradients, exact_logprobs, off_by
from gpu_rivals import CONTENDERS, in_chunks
from gpu_timing import peak, timed
from results import commit

Row = dict[str, Any]
PACKAGES = ("triton", "transformers", "polars", "trl", "verl", "liger-kernel", "quack-kernels")
SEEDS = 2
"""Inputs that take turns."""


def sizes_of(options: argparse.Namespace, *, small: bool = False) -> Sizes:
    """Return the sizes of what is timed, or of what is compared with float32 logits."""
    length = min(options.length, options.tokens)
    tokens = options.tokens - options.tokens % length
    return Sizes(min(tokens, 4 * length) if small else tokens, length, *options.shape)


def made(options: argparse.Namespace, data: str, kind: str, **more: Any) -> Any:
    """Draw a batch on the device and in the precision of the run."""
    dtype = getattr(torch, options.dtype)
    sizes = more.pop("sizes", None) or sizes_of(options)
    return batch(sizes, data, kind, options.device, dtype, **more)


def smoke(options: argparse.Namespace) -> Iterator[Row]:
    """Say what machine this is, and compare our heads, small, with float64 or float32."""
    device = options.device
    row: Row = {"name": "machine", "python": platform.python_version(), "torch": torch.__version__}
    row |= {"device": str(device), "commit": commit(), "dtype": options.dtype}
    if device.type == "cuda":
        found = torch.cuda.get_device_properties(device)
        row |= {"device": found.name, "multiprocessors": found.multi_processor_count}
        row |= {"GiB": round(found.total_memory / 2**30), "cuda": torch.version.cuda}
    for name in PACKAGES:
        try:
            row[name] = version(name)
        except PackageNotFoundError:
            row[name] = None
    yield row
    # Several blocks of words, and an odd number of them; every kernel that there is.
    for dtype in dict.fromkeys((torch.float64, getattr(torch, options.dtype))):
        for who in (one for one in CONTENDERS if one.name.startswith("linear_")):
            given = batch(Sizes(24, 8, 32, 4099), "random", who.kind, device, dtype)
            pairs = zip(who.gradients(given), exact_gradients(given, who.kind), strict=True)
            yield {"name": f"{who.name}, {dtype}", "off_by": max(off_by(*pair) for pair in pairs)}


def ceilings(options: argparse.Namespace) -> Iterator[Row]:
    """Time the three products, as the head takes them, and a copy."""
    device, dtype = options.device, getattr(torch, options.dtype)
    sizes = sizes_of(options)
    n, d, v = min(sizes.tokens, 4096), sizes.hidden, sizes.vocabulary
    hidden = [torch.randn(n, d, device=device, dtype=dtype) for _ in range(SEEDS)]
    weight = torch.randn(v, d, device=device, dtype=dtype)
    residual = torch.randn(n, v, device=device, dtype=dtype)
    sums = torch.zeros(v, d, device=device)
    logits, of_hidden = (torch.empty(n, k, device=device) for k in (v, d))
    wide = {"out_dtype": torch.float32} if device.type == "cuda" else {}
    if not wide:  # products of less than float32 with sums in it are not there on a CPU
        logits, of_hidden, sums = (x.to(dtype) for x in (logits, of_hidden, sums))
    products = {
        "logits": lambda x: torch.mm(x, weight.T, out=logits, **wide),
        "gradient of hidden": lambda _: torch.mm(residual, weight, out=of_hidden, **wide),
        "gradient of the head": lambda x: torch.addmm(sums, residual.T, x, out=sums, **wide),
    }
    for name, product in products.items():
        spent = timed(product, hidden, options.rounds, device)
        rate = 2 * n * d * v / spent.median
        yield {"name": name, "seconds": asdict(spent), "operations_a_second": rate}
    source, target = (torch.empty_like(residual) for _ in range(2))
    spent = timed(lambda _: target.copy_(source), [None], options.rounds, device)
    moved = 2 * source.nbytes / spent.median
    yield {"name": "copy", "seconds": asdict(spent), "bytes_a_second": moved}


def sweep(options: argparse.Namespace) -> Iterator[Row]:
    """Time our loss by the tokens of a chunk, of short sequences and of one long."""
    for length in dict.fromkeys((options.length, min(8 * options.length, options.tokens))):
        sizes = replace(sizes_of(options), length=length)
        given = [made(options, "random", "off policy", seed=s, sizes=sizes) for s in range(SEEDS)]
        for size in (None, *options.chunks):
            yield {
                "name": "default" if size is None else f"{size}",
                "length": length,
                "operations": sizes.operations,
                "seconds": asdict(timed(in_chunks(size), given, options.rounds, options.device)),
                "MiB": peak(partial(in_chunks(size), given[0]), options.device),
            }


def rival(options: argparse.Namespace) -> Iterator[Row]:
    """Compare one contender with float32, and time it, on either kind of data."""
    (who,) = [one for one in CONTENDERS if one.name == options.only]
    row: Row = {"name": who.name, "loss": who.kind, "products": who.products, "logits": who.logits}
    if who.module is not None and importlib.util.find_spec(who.module) is None:
        yield row | {"state": "not installed", "says": f"install {who.package}"}
        return
    small, large = sizes_of(options, small=True), sizes_of(options)
    for data in DATA:
        given = made(options, data, who.kind, sizes=small)
        exact = exact_gradients(given, who.kind)
        found = who.gradients(given)
        names = ("hidden_off_by", "weight_off_by")
        off = {n: off_by(*pair) for n, *pair in zip(names, found, exact, strict=True)}
        if who.logprobs is not None:
            with torch.no_grad():
                off["logprobs_off_by"] = float(
                    (who.logprobs(given).float() - exact_logprobs(given)).abs().max()
                )
        del exact, found, given
        batches = [made(options, data, who.kind, seed=s) for s in range(SEEDS)]
        spent = timed(who.gradients, batches, options.rounds, options.device)
        more = {"MiB": peak(partial(who.gradients, batches[0]), options.device)}
        yield (
            row
            | {"data": data, **off, "operations": large.operations}
            | more
            | {"seconds": asdict(spent)}
        )
