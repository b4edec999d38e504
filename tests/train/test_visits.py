"""Which visits to prompts are begun, trained on and dropped, over any order of events."""

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gspo_rs.train.rollout.visits import restored
from gspo_rs.train.world import World


def moved(visits, event, draw):
    """Let one thing happen; return the places that were trained on by it."""
    some = {
        "sampled": visits.at("sampling"),
        "again": visits.at("sampling") + visits.at("sampled"),
        "dropped": visits.at("sampling") + visits.at("sampled"),
        "training": visits.at("sampled"),
        "trained": visits.at("training"),
    }
    if event == "begin":
        visits.begin()
        return []
    places = [place for place in some[event] if draw(st.booleans())]
    visits.move(places, event)
    return places if event == "trained" else []


@given(st.data())
def test_every_visit_is_over_once_or_open_in_one_process_through_any_events_and_resumes(data):
    size = data.draw(st.integers(1, 5))
    worlds = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    states, over = [], Counter()
    for n in worlds:
        ranks = [restored(states, size, World(rank, n)) for rank in range(n)]
        assert not any(visits.at("sampling") for visits in ranks)
        for _ in range(data.draw(st.integers(0, 12))):
            event = data.draw(
                st.sampled_from(["begin", "sampled", "again", "training", "trained", "dropped"])
            )
            visits = data.draw(st.sampled_from(ranks))
            over.update(moved(visits, event, data.draw))
        states = [json.loads(json.dumps(visits.state())) for visits in ranks]
    ranks = [restored(states, size, World(rank, 2)) for rank in range(2)]
    for visits in ranks:
        over.update([*visits.open, *visits.dropped])
    assert over == Counter(range(ranks[0].batch * size))


def test_a_process_begins_its_share_of_each_batch_and_first_what_is_to_be_sampled_again():
    visits = restored([], 5, World(1, 2))
    assert visits.begin() == [2, 3, 4]
    visits.move([3], "again")
    assert visits.begin() == [3]
    assert visits.begin() == [7, 8, 9]
    assert restored([], 5, World(0, 2)).begin() == [0, 1]


@pytest.mark.parametrize(
    ("steps", "error"),
    [
        (["trained"], "visit 0 is sampling; it cannot be trained"),
        (["sampled", "training", "trained", "trained"], "visit 0 is not open"),
        (["sampled", "training", "again"], "visit 0 is training; it cannot be again"),
    ],
)
def test_a_visit_that_would_be_lost_or_trained_on_twice_is_an_error(steps, error):
    visits = restored([], 1, World())
    visits.begin()
    for step in steps[:-1]:
        visits.move([0], step)
    with pytest.raises(RuntimeError, match=error):
        visits.move([0], steps[-1])
