import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from itertools import chain

import pytest

import gspo_rs as gs

SIZE = 8


def run_threads(n, n_producers=12, n_consumers=4):
    """Return every payload put and taken, and the buffer, when threads have put `n` or more."""
    buffer = gs.GroupBuffer(
        SIZE, max_groups=256, max_bytes=100_000, max_staleness=50, remember=10**7
    )
    deadline = time.monotonic() + 600
    accepted = [[] for _ in range(n_producers)]
    taken = [[] for _ in range(n_consumers)]

    def go_on():
        return sum(map(len, accepted)) < n and time.monotonic() < deadline

    def produce(own):
        # All threads put all groups, each some of the rollouts: no group is of one thread.
        group = 0
        while go_on():
            for rollout in range(own % SIZE, SIZE, 3):
                payload = (group, rollout, own)
                while True:
                    status = buffer.put(group, rollout, payload, policy_version=group, n_bytes=9)
                    if status != "full" or not go_on():
                        break
                    time.sleep(0.0005)
                if status in ("accepted", "ready"):
                    accepted[own].append(payload)
            group += 1

    def consume(own):
        while go_on():
            try:
                group = buffer.get(timeout=0.02)
            except TimeoutError:
                continue
            taken[own].append(group)

    threads = [threading.Thread(target=produce, args=(i,)) for i in range(n_producers)]
    threads += [threading.Thread(target=consume, args=(i,)) for i in range(n_consumers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return buffer, [*chain(*accepted)], [*chain(*taken)]


def check_threads(n):
    buffer, accepted, taken = run_threads(n)
    assert len(accepted) >= n
    held = buffer.state_dict()["held"]
    names = [group.group_id for group in taken]
    assert len(names) == len(set(names))
    for group in taken:
        assert sorted(group.rollout_ids) == list(range(SIZE))
        assert [(p[0], p[1]) for p in group.payloads] == [
            (group.group_id, rollout) for rollout in group.rollout_ids
        ]
    out = [payload for group in taken for payload in group.payloads]
    inside = [tuple(rollout["payload"]) for group in held for rollout in group["rollouts"]]
    stats = buffer.stats()
    assert stats.evicted_rollouts == 0
    assert sorted(out + inside) == sorted(accepted)
    assert stats.given_rollouts == len(out)


def test_sixteen_threads_lose_double_and_mix_up_no_rollout():
    check_threads(10_000)


@pytest.mark.soak
def test_sixteen_threads_lose_double_and_mix_up_no_rollout_of_a_million():
    check_threads(1_000_000)


def test_a_state_saved_while_threads_put_is_whole():
    buffer = gs.GroupBuffer(SIZE, max_groups=10**6)

    def produce(own):
        for group in range(400):
            for rollout in range(own, SIZE, 4):
                buffer.put(group, rollout, [group, rollout], policy_version=0)

    threads = [threading.Thread(target=produce, args=(own,)) for own in range(4)]
    for thread in threads:
        thread.start()
    states = []
    while any(thread.is_alive() for thread in threads):
        states.append(buffer.state_dict())
    for state in states:
        restored = gs.GroupBuffer(SIZE, max_groups=10**6)
        restored.load_state_dict(state)
        stats = restored.stats()
        assert stats.accepted == sum(len(group["rollouts"]) for group in state["held"])
        for group in state["held"]:
            assert (group["ready"] is not None) == (len(group["rollouts"]) == SIZE)


def test_a_waiting_get_is_woken_by_the_rollout_that_completes_a_group():
    buffer = gs.GroupBuffer(group_size=2)
    buffer.put("a", 0, "first", policy_version=0)
    timer = threading.Timer(0.05, buffer.put, ("a", 1, "second"), {"policy_version": 0})
    timer.start()
    assert buffer.get(timeout=600).payloads == ("first", "second")


def test_a_waiting_get_is_woken_by_a_deadline():
    buffer = gs.GroupBuffer(group_size=2, deadline=0.05)
    timer = threading.Timer(0.02, buffer.put, ("a", 0, "lone"), {"policy_version": 0})
    timer.start()
    group = buffer.get(timeout=600)
    assert (group.payloads, group.complete) == (("lone",), False)
    assert group.seconds >= 0.05


def test_a_get_that_times_out_says_so():
    with pytest.raises(TimeoutError, match="no group was ready"):
        gs.GroupBuffer(group_size=2).get(timeout=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("deadline", [0, 1e-9, float("inf")])
def test_a_get_waits_without_spinning_whatever_the_deadline(deadline):
    buffer = gs.GroupBuffer(group_size=2, deadline=deadline)
    timer = threading.Timer(0.5, buffer.put, ("a", 0, "lone"), {"policy_version": 0})
    timer.start()
    began = time.thread_time()  # not that of other threads of these tests
    if deadline < 1:
        assert buffer.get(timeout=600).payloads == ("lone",)
    else:
        with pytest.raises(TimeoutError):
            buffer.get(timeout=0.6)
    assert time.thread_time() - began < 0.25


def test_a_get_may_wait_longer_than_a_clock_counts_but_not_for_no_number():
    buffer = gs.GroupBuffer(group_size=1)
    for number, seconds in enumerate([float("inf"), 1e12]):
        timer = threading.Timer(0.05, buffer.put, (number, 0, "kept"), {"policy_version": 0})
        timer.start()
        assert buffer.get(timeout=seconds).payloads == ("kept",)
    with pytest.raises(ValueError, match="timeout is nan; it is seconds, or None"):
        buffer.get(timeout=float("nan"))
    with pytest.raises(ValueError, match="timeout is nan; it is seconds, or None"):
        asyncio.run(buffer.aget(timeout=float("nan")))


def test_ctrl_c_ends_a_get_that_waits_for_ever(ctrl_c):
    script = (
        "import gspo_rs\n"
        "buffer = gspo_rs.GroupBuffer(group_size=1)\n"
        "try:\n"
        "    print('waiting', flush=True)\n"
        "    buffer.get()\n"
        "except KeyboardInterrupt: print('interrupted', flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "waiting\n"
    time.sleep(0.2)
    os.kill(process.pid, signal.SIGINT)
    # Without an answer it would wait for ever: how long a busy machine takes does not matter.
    assert process.communicate(timeout=600)[0] == "interrupted\n"


def test_tasks_wait_for_groups_without_blocking_their_loop():
    async def main():
        buffer = gs.GroupBuffer(group_size=2)
        takers = [asyncio.create_task(buffer.aget(timeout=600)) for _ in range(3)]
        ticks = 0
        for number in range(6):
            await asyncio.sleep(0)
            ticks += 1
            buffer.put(number // 2, number % 2, number, policy_version=0)
        groups = await asyncio.gather(*takers)
        assert ticks == 6
        return sorted(group.payloads for group in groups)

    assert asyncio.run(main()) == [(0, 1), (2, 3), (4, 5)]


def test_a_cancelled_task_takes_no_group_with_it():
    async def main():
        buffer = gs.GroupBuffer(group_size=1)
        taker = asyncio.create_task(buffer.aget())
        await asyncio.sleep(0.01)
        buffer.put("a", 0, "kept", policy_version=0)
        taker.cancel()
        with pytest.raises(asyncio.CancelledError):
            await taker
        return (await buffer.aget(timeout=600)).payloads

    assert asyncio.run(main()) == ("kept",)


def test_a_loop_that_was_closed_with_a_waiting_task_does_not_stop_the_producers():
    buffer, loop = gs.GroupBuffer(group_size=1), asyncio.new_event_loop()
    task = loop.create_task(buffer.aget())
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert buffer.put("a", 0, "kept", policy_version=0) == "ready"
    assert buffer.get(timeout=0).payloads == ("kept",)
    assert not task.done()
    task._log_destroy_pending = False  # it is left behind on purpose


def test_a_task_that_waits_too_long_is_told():
    with pytest.raises(TimeoutError):
        asyncio.run(gs.GroupBuffer(group_size=1).aget(timeout=0.01))


def test_a_payload_that_comes_back_while_it_is_dropped_does_no_harm():
    buffer = gs.GroupBuffer(group_size=2, max_staleness=0)
    finalised = []

    class Payload:
        def __del__(self):
            finalised.append(buffer.put("from a finaliser", 0, None, policy_version=1))

    buffer.put("a", 0, Payload(), policy_version=0)
    assert [group.group_id for group in buffer.advance(1)] == ["a"]
    assert finalised == ["accepted"]


def test_a_buffer_in_a_cycle_with_its_payload_is_collected():
    import gc
    import weakref

    class Payload:
        pass

    payload = Payload()
    payload.buffer = gs.GroupBuffer(group_size=2)
    payload.buffer.put("a", 0, payload, policy_version=0)
    gone = weakref.ref(payload)
    del payload
    gc.collect()
    assert gone() is None
