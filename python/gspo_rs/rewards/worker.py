"""The process that calls reward functions for a pool: a line of JSON for each row, over a socket.

It is started by `gspo_rs.rewards.worker_process` in a fresh interpreter.
"""

from __future__ import annotations

import ctypes
import errno
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
from collections.abc import Mapping
from typing import Any

import numpy as np

from gspo_rs.rewards.answers import reward_or_fault
from gspo_rs.rewards.awaited import awaited
from gspo_rs.rewards.errors import RewardError
from gspo_rs.rewards.functions import (
    RewardFunction,
    asked,
    called,
    deed_of,
    listed,
    load,
    titled,
)
from gspo_rs.rewards.logged import Log

__all__ = ["ERROR_CHARACTERS", "serve"]

ERROR_CHARACTERS = 200
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_PR_SET_PDEATHSIG = 1


def serve(
    channel: int, parent: int, functions: Mapping[str, str], memory: int, open_files: int
) -> None:
    """Load reward functions and answer rows until the channel is closed.

    Parameters
    ----------
    channel : int
        Descriptor of a socket. What functions print does not get there.
    parent : int
        Process that ends this one by ending.
    functions : mapping of str to str
        By name where they are, as `load` takes it.
    memory, open_files : int
        Bytes of data, and descriptors, that this process may have.
    """
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
    say({"ready": {name: _parameters(function) for name, function in found.items()}})
    threads = threading.active_count()
    for line in link.makefile("rb"):
        row = json.loads(line)
        name = row["function"]
        answer = _graded(found[name], name, row)
        left = threading.active_count() > threads
        say({"id": row["id"], "nonce": row["nonce"], "left": left, **answer})


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


class _State:
    """How far the run is, as far as it is sent."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        vars(self).update(fields)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"trainer_state.{name} is not sent to the workers of reward functions; set"
            " reward_workers = 0 to have it"
        )


def _graded(function: RewardFunction, name: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """Call a function on one row; whatever it raises becomes the status of the row."""
    _seed(row["seed"])
    state = {} if row["state"] is None else {"trainer_state": _State(row["state"])}
    log = Log(titled(name))
    try:
        answer = called(function, {**row["given"], **asked(function, state, log)})
        if inspect.isawaitable(answer):
            (answer,) = awaited([answer])
        return _rewarded(answer, name, log)
    except BaseException as error:  # noqa: BLE001 -- is reported with the row
        return _failure(error)


def _rewarded(answer: Any, name: str, log: Log) -> dict[str, Any]:
    """Return the status of what a function answered for one row."""
    try:
        values = listed(answer, titled(name))
    except RewardError as error:
        return {"status": "none", **_cut(str(error).removeprefix(f"{titled(name)} "))}
    if isinstance(values, BaseException):
        return _failure(values)
    if len(values) != 1:
        return {"status": "none", **_cut(f"answered {len(values)} rewards for 1 completion")}
    reward, fault = reward_or_fault(values[0])
    logged = log.closed(1)
    extra = {column: entries[0] for column, entries in logged.extra.items()}
    found = {"metrics": dict(logged.metrics), "extra": extra}
    if fault:
        return {"status": "none", **_cut(f"answered {fault[0]}; {fault[1]}"), **found}
    if math.isnan(reward):
        return {"status": "none", **found}
    return {"status": "ok", "reward": reward, **found}


def _failure(error: BaseException) -> dict[str, Any]:
    """Return the status of an exception, and whether an earlier row may be the cause."""
    deed = str(error) if isinstance(error, RewardError) else deed_of(error)
    memory = isinstance(error, MemoryError)
    short = memory or (isinstance(error, OSError) and error.errno in _EXHAUSTED)
    return {"status": "memory" if memory else "error", "short": short, **_cut(deed)}


def _cut(text: str) -> dict[str, str]:
    return {"error": " ".join(text.split())[:ERROR_CHARACTERS]}


def _seed(seed: int) -> None:
    """Seed the generators, so that a row's reward does not depend on the worker that it met."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    if (torch := sys.modules.get("torch")) is not None:
        torch.manual_seed(seed)
