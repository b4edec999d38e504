"""The process that calls reward functions for a pool: a line of JSON for each row, over a socket.

It is started by `gspo_rs.rewards.worker_process` in a fresh interpreter.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import inspect
import json
import math
import os
import random
import resource
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gspo_rs.rewards.answers import reward_or_fault
from gspo_rs.rewards.awaited import awaited
from gspo_rs.rewards.errors import RewardError
from gspo_rs.rewards.functions import (
    LOGS,
    RewardFunction,
    called,
    deed_of,
    listed,
    load,
    titled,
)
from gspo_rs.rewards.logged import Log

__all__ = ["ERROR_CHARACTERS", "serve"]

ERROR_CHARACTERS = 200
_TRACE_CHARACTERS = 4000
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_PR_SET_PDEATHSIG = 1


def serve(
    channel: int, parent: int | None, functions: Mapping[str, str], memory: int, open_files: int
) -> None:
    """Load reward functions and answer rows until the channel is closed.

    Parameters
    ----------
    channel : int
        Descriptor of a socket. What functions print does not get there.
    parent : int or None
        Process that ends this one by ending; None where a sandbox sees to that.
    functions : mapping of str to str
        By name where they are, as `load` takes it.
    memory, open_files : int
        Bytes of data, and descriptors, that this process may have.
    """
    if parent is not None:
        _bind_to(parent)
    _limit(memory, open_files)
    os.set_inheritable(channel, False)
    own, link = os.getpid(), socket.socket(fileno=channel)

    def say(message: Mapping[str, Any]) -> None:
        if os.getpid() != own:  # a fork that came back out of the function
            os._exit(0)
        link.sendall(json.dumps(message).encode() + b"\n")

    try:
        found = {name: load(spec) for name, spec in functions.items()}
    except RewardError as error:
        say({"refused": str(error)})
        return
    known = {name: _parameters(function) for name, function in found.items()}
    sources = {name: _source(functions[name], one) for name, one in found.items()}
    say({"ready": known, "sources": sources})
    threads = threading.active_count()
    for line in link.makefile("rb"):
        row = json.loads(line.decode())
        name, started = row["function"], time.perf_counter()
        answer = _graded(found[name], known[name], row)
        seconds = time.perf_counter() - started
        left = threading.active_count() > threads
        say({"id": row["id"], "nonce": row["nonce"], "left": left, "seconds": seconds, **answer})


def _bind_to(parent: int) -> None:
    """End this process when the other does, which a function that hangs would not notice."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def _limit(memory: int, open_files: int) -> None:
    """Limit data and open files, and write no core."""
    # The address space counts code, and what an accelerator reserves, which are not memory.
    data = resource.RLIMIT_DATA if sys.platform == "linux" else resource.RLIMIT_AS
    limits = {data: memory, resource.RLIMIT_NOFILE: open_files, resource.RLIMIT_CORE: 0}
    for kind, most in limits.items():
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))


def _parameters(function: RewardFunction) -> list[str] | None:
    """Return the arguments that a function names; None if it takes any."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # of a builtin, which has none that can be read
        return []
    every = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values())
    return None if every else list(parameters)


def _source(spec: str, function: RewardFunction) -> str:
    """Return the SHA-256 of the file that a function is in; empty where there is none.

    Of one that another file makes of it, as by `functools.partial`, that file comes first.
    """
    place = spec.rpartition(":")[0]
    files = [place] if place.endswith(".py") else []
    inner = inspect.unwrap(function.func if isinstance(function, partial) else function)
    with suppress(TypeError, ValueError):  # a builtin, or an object without a file
        files.append(inspect.getsourcefile(inner) or "")
    found = hashlib.sha256()
    there = {Path(file).resolve(): None for file in files if file and Path(file).is_file()}
    for path in there:
        found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest() if there else ""


class _State:
    """How far the run is, as far as it is sent."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        vars(self).update(fields)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"trainer_state.{name} is not sent to the workers of reward functions; set"
            " reward_workers = 0 to have it"
        )


def _graded(
    function: RewardFunction, known: list[str] | None, row: Mapping[str, Any]
) -> dict[str, Any]:
    """Call a function on a row, or on several; whatever it raises becomes their status."""
    name, n = row["function"], row["count"]
    _seed(row["seed"])
    log = Log(titled(name))
    offered = {one: getattr(log, one) for one in LOGS}
    if row["state"] is not None:
        offered["trainer_state"] = _State(row["state"])
    taken = {one: value for one, value in offered.items() if known is None or one in known}
    try:
        answer = called(function, {**row["given"], **taken})
        if inspect.isawaitable(answer):
            (answer,) = awaited([answer])
        return _rewarded(answer, name, log, n)
    except BaseException as error:  # noqa: BLE001 -- is reported with the row
        return _failure(error)


def _rewarded(answer: Any, name: str, log: Log, n: int) -> dict[str, Any]:
    """Return the status of what a function answered for one row, or the rewards of several."""
    try:
        values = listed(answer, titled(name))
    except RewardError as error:
        return {"status": "none", **_cut(str(error).removeprefix(f"{titled(name)} "))}
    if isinstance(values, BaseException):
        return _failure(values)
    if len(values) != n:
        completions = "completion" if n == 1 else "completions"
        return {"status": "none", **_cut(f"answered {len(values)} rewards for {n} {completions}")}
    found = [reward_or_fault(value) for value in values]
    logged = log.closed(n)
    more = {"metrics": dict(logged.metrics), "extra": dict(logged.extra)}
    fault = next((fault for _, fault in found if fault), None)
    if fault:
        return {"status": "none", **_cut(f"answered {fault[0]}; {fault[1]}"), **more}
    return {"rewards": [None if math.isnan(reward) else reward for reward, _ in found], **more}


def _failure(error: BaseException) -> dict[str, Any]:
    """Return the status of an exception, and whether an earlier row may be the cause."""
    deed = str(error) if isinstance(error, RewardError) else deed_of(error)
    memory = isinstance(error, MemoryError)
    short = memory or (isinstance(error, OSError) and error.errno in _EXHAUSTED)
    trace = "".join(traceback.format_exception(error))[-_TRACE_CHARACTERS:]
    status = "memory" if memory else "error"
    return {"status": status, "short": short, "trace": trace, **_cut(deed)}


def _cut(text: str) -> dict[str, str]:
    return {"error": " ".join(text.split())[:ERROR_CHARACTERS]}


def _seed(seed: int) -> None:
    """Seed the generators, so that a row's reward does not depend on the worker that it met."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    if (torch := sys.modules.get("torch")) is not None:
        torch.manual_seed(seed)
