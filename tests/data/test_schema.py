"""The columns of a source that say how completions ended, and where rows stood."""

import polars as pl
import pytest

from gspo_rs import data


@pytest.mark.parametrize(
    ("told", "cut_off"),
    [
        ([True, False, None], [True, False, True]),
        (["length", "stop", None], [True, False, True]),
        (["MAX_TOKENS", "tool_calls", "eos"], [True, False, False]),
    ],
)
@pytest.mark.parametrize("shuffle", [False, True])
def test_a_column_tells_which_completions_were_cut_off(told, cut_off, shuffle):
    rewards = {"reward": [0.0, 1.0, None]}
    frame = pl.DataFrame({"id": 7, "prompt": "a", "completion": "x", "why": told, **rewards})
    (batch,) = data.rollouts(frame, by="id", truncated="why", shuffle=shuffle)
    assert batch.truncated.tolist() == cut_off
    assert batch.source_rows.tolist() == [0, 1, 2]
    (untold,) = data.rollouts(frame, by="id")
    assert untold.truncated is None


def test_a_row_of_scattered_groups_keeps_its_place_in_the_source():
    frame = pl.DataFrame({"id": [7, 8, 7], "prompt": "a", "completion": "x", "reward": 1})
    batches = list(data.rollouts(frame, by="id", batch_groups=1))
    assert [batch.source_rows.tolist() for batch in batches] == [[0, 2], [1]]
    assert batches[0].place(1) == "row 2, group 7"


@pytest.mark.parametrize(
    ("told", "error", "words"),
    [
        (["stop", "ok"], ValueError, "'why' of the .* is 'ok', none of length, .* at row 1"),
        ([True, None], ValueError, "'why' of the .* is null, though it has a reward, at row 1"),
        ([1, 0], TypeError, "'why' of the .* is Int64; it must be a bool, or text such as 'stop'"),
    ],
)
def test_a_word_that_does_not_tell_is_refused_with_its_row(told, error, words):
    frame = pl.DataFrame({"id": 7, "prompt": "a", "completion": "x", "why": told, "reward": 1})
    with pytest.raises(error, match=words):
        next(data.rollouts(frame, by="id", truncated="why"))
