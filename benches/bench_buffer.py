"""Puts a second into a `GroupBuffer`, against the same made of a dictionary, a lock and a queue.

    python benches/bench_buffer.py [--groups 100000] [--size 8]

Both gather the same rollouts, in an order that mixes 64 groups, and are checked to give out the
same groups first. The rival does less: it knows no duplicates, late ones, versions or bounds.
"""

from __future__ import annotations

import argparse
import queue
import random
import statistics
import threading

from measurement import refuse_debug_build, spending
from results import record

import gspo_rs as gs


class Plain:
    """A dictionary of lists behind a lock."""

    def __init__(self, size: int) -> None:
        self.size, self.lock, self.groups = size, threading.Lock(), {}
        self.ready: queue.SimpleQueue = queue.SimpleQueue()

    def put(self, group_id, rollout_id, payload, *, policy_version):
        with self.lock:
            group = self.groups.setdefault(group_id, [])
            group.append((rollout_id, policy_version, payload))
            if len(group) == self.size:
                self.ready.put((group_id, self.groups.pop(group_id)))


def arrivals(n_groups: int, size: int) -> list[tuple[int, int]]:
    rng = random.Random(0)
    order = []
    for start in range(0, n_groups, 64):
        block = [
            (group, r) for group in range(start, min(start + 64, n_groups)) for r in range(size)
        ]
        rng.shuffle(block)
        order += block
    return order


def ours(order, size):
    buffer = gs.GroupBuffer(size)
    with spending() as spent:
        for group, rollout in order:
            if buffer.put(group, rollout, rollout, policy_version=0) == "ready":
                buffer.get(timeout=0)
    return spent


def plain(order, size):
    buffer = Plain(size)
    with spending() as spent:
        for group, rollout in order:
            buffer.put(group, rollout, rollout, policy_version=0)
            if not buffer.ready.empty():
                buffer.ready.get()
    return spent


def check(order, size) -> None:
    buffer, rival = gs.GroupBuffer(size, max_groups=10**9), Plain(size)
    for group, rollout in order:
        buffer.put(group, rollout, rollout, policy_version=0)
        rival.put(group, rollout, rollout, policy_version=0)
    while not rival.ready.empty():
        group_id, rollouts = rival.ready.get()
        group = buffer.get(timeout=0)
        assert (group.group_id, group.payloads) == (group_id, tuple(r[2] for r in rollouts))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--groups", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=8)
    args = parser.parse_args()
    refuse_debug_build()
    order = arrivals(args.groups, args.size)
    check(order[:20_000], args.size)
    spent = {"ours": [], "plain": []}
    for _ in range(3):
        spent["ours"].append(ours(order, args.size))
        spent["plain"].append(plain(order, args.size))
    seconds = {name: statistics.median(run.wall for run in runs) for name, runs in spent.items()}
    for name, runs in spent.items():
        wall, cpu = len(order) / seconds[name], len(order) / min(run.cpu for run in runs)
        print(f"{name:6} {wall:12,.0f} puts a second, {cpu:12,.0f} per CPU second")
    record("buffer: puts", seconds, ours=["ours"], rows=len(order))


if __name__ == "__main__":
    main()
