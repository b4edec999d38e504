"""The paper model of the head on a GPU: its figures were first worked out by hand."""

import importlib.util
import sys
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.places import ROOT

spec = importlib.util.spec_from_file_location("roofline", ROOT / "benches" / "roofline.py")
roofline = sys.modules["roofline"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(roofline)

LARGE = roofline.Case(32_768, 2048, 151_936, 1024)
H100, H200 = roofline.CARDS["H100"], roofline.CARDS["H200"]
cases = st.builds(
    roofline.Case,
    tokens=st.sampled_from([8192, 32_768]),
    hidden=st.sampled_from([1024, 2048, 4096]),
    vocabulary=st.sampled_from([32_000, 151_936]),
    length=st.sampled_from([128, 300, 1024, 8192]),
)


@pytest.mark.parametrize(
    ("card", "hidden", "rows", "by_hand", "within"),
    [
        (H200, 2048, None, 0.47, 0.006),
        (H100, 2048, None, 0.37, 0.006),
        # By hand the product of 512 rows was taken to be as slow at either D.
        (H200, 4096, None, 0.49, 0.03),
        (H100, 4096, None, 0.39, 0.03),
        (H200, 2048, 1024, 0.74, 0.011),
        (H100, 2048, 1024, 0.68, 0.011),
        (H200, 2048, 4096, 0.79, 0.011),
        (H100, 2048, 4096, 0.74, 0.011),
        (H200, 4096, 4096, 0.84, 0.011),
        (H100, 4096, 4096, 0.81, 0.011),
    ],
)
def test_the_head_as_it_was_has_the_share_worked_out_by_hand(card, hidden, rows, by_hand, within):
    design = roofline.before(LARGE.vocabulary)
    if rows is not None:
        design = replace(design, rows=rows)
    case = replace(LARGE, hidden=hidden)
    assert roofline.share(case, design, card) == pytest.approx(by_hand, abs=within)


def test_the_head_as_it_was_moves_the_bytes_and_takes_the_time_worked_out_by_hand():
    design = roofline.before(LARGE.vocabulary)
    gigabytes = {part.name: part.moved / 1e9 for part in roofline.parts(LARGE, design, H200)}
    assert gigabytes["rows"] == pytest.approx(50, abs=0.5)
    assert gigabytes["gradient of the head"] == pytest.approx(170, abs=1)
    assert gigabytes["sums apart"] == pytest.approx(159, abs=0.5)
    assert roofline.seconds(LARGE, design, H200) == pytest.approx(0.166, abs=0.001)
    assert roofline.seconds(LARGE, design, H100) == pytest.approx(0.206, abs=0.002)


@pytest.mark.parametrize("hidden", [2048, 4096])
@pytest.mark.parametrize(("card", "least"), [(H200, 0.80), (H100, 0.78)])
def test_the_new_design_is_predicted_to_reach_its_goal(card, least, hidden):
    case = replace(LARGE, hidden=hidden)
    *_, kept, _ = roofline.designs(case)
    assert roofline.share(case, kept, card) >= least


@pytest.mark.parametrize("vocabulary", [32_000, 151_936])
def test_the_host_keeps_the_gpu_waiting_only_as_long_as_slopes_are_not_in_closed_form(vocabulary):
    case = replace(LARGE, vocabulary=vocabulary)
    waits = [
        roofline.seconds(case, design, H200)
        > sum(part.seconds(H200) for part in roofline.parts(case, design, H200))
        for design in roofline.designs(case)
    ]
    assert not any(waits[2:])
    assert waits[0] == (vocabulary == 32_000)


def test_a_block_of_the_new_design_has_the_launches_that_are_counted_in_a_trace():
    # In tests/logprobs/test_launches.py.
    *_, kept, _ = roofline.designs(LARGE)
    assert roofline.launches(replace(LARGE, tokens=2048), kept) == 6
    assert roofline.launches(LARGE, kept) == 6 + 3 * 2


@given(cases, st.integers(0, 5), st.sampled_from([H100, H200]))
def test_no_design_beats_its_three_products_and_no_step_makes_it_slower(case, place, card):
    designs = roofline.designs(case)
    assert 0 < roofline.share(case, designs[place], card) < 1
    times = [roofline.seconds(case, design, card) for design in designs[:5]]
    assert all(later <= earlier * 1.001 for earlier, later in pairwise(times)), times


@given(cases, st.integers(0, 5))
def test_every_product_is_computed_once_and_more_bandwidth_is_never_slower(case, place):
    design = roofline.designs(case)[place]
    parts = roofline.parts(case, design, H100)
    assert sum(part.operations for part in parts) == case.operations
    assert roofline.seconds(case, design, H200) <= roofline.seconds(case, design, H100)


def test_the_tables_have_a_row_for_every_design_and_every_part():
    rows = roofline.shares_table(LARGE).splitlines()
    assert [row.split(" | ")[0][2:] for row in rows[2:]] == [
        design.name for design in roofline.designs(LARGE)
    ]
    assert rows[2].count("%") == 8
    assert "| before | sums apart | 32 | 159.3 |" in roofline.parts_table(LARGE, H200)
