import asyncio
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gspo_rs.samplers.rate import Rate

WINDOW = 0.05
jobs = st.lists(
    st.tuples(st.integers(1, 4), st.sampled_from([0.0, 0.004, 0.02])), min_size=1, max_size=12
)


async def intervals(most, given_jobs):
    """When each job held its units, and how many."""
    rate, found = Rate(most, WINDOW), []

    async def one(units, seconds):
        async with rate.taking(units):
            begin = time.monotonic()
            await asyncio.sleep(seconds)
        found.append((begin, time.monotonic(), units))

    await asyncio.gather(*(one(*job) for job in given_jobs))
    return found


@pytest.mark.slow
@settings(max_examples=20)
@given(jobs, st.integers(4, 8))
def test_wherever_a_request_arrives_between_its_start_and_end_no_window_has_too_many(jobs, most):
    held = asyncio.run(intervals(most, jobs))
    # The worst server sees a request as late as it can; those that a window may hold overlap it.
    for _, end, _ in held:
        inside = [units for begin, stop, units in held if begin < end + WINDOW and stop >= end]
        assert sum(inside) <= most


def test_what_is_given_back_early_is_what_was_used():
    async def run():
        rate = Rate(100, 10_000.0)
        async with rate.taking(100) as taken:
            taken.units = 10
        async with rate.taking(90):
            return True

    assert asyncio.run(asyncio.wait_for(run(), 600))


def test_a_rate_that_may_be_spent_lets_nothing_pass_for_a_window():
    async def run():
        begin = time.monotonic()
        rate = Rate(3, WINDOW)
        rate.spend()
        async with rate.taking(1), rate.taking(2):
            return time.monotonic() - begin

    assert asyncio.run(run()) >= WINDOW


def test_who_came_first_goes_first():
    async def run():
        rate, order = Rate(2, 0.02), []

        async def one(name, units):
            async with rate.taking(units):
                order.append(name)

        await asyncio.gather(one("a", 1), one("large", 2), one("b", 1))
        return order

    assert asyncio.run(run()) == ["a", "large", "b"]
