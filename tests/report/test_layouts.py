"""The page about one row per prompt has the numbers of the page about the same rows."""

import re

import polars as pl
import pytest

import gspo_rs as gs


def numbers(path):
    text = re.sub(r"<[^>]*>", " ", path.read_text().partition("<main")[2] or path.read_text())
    return re.findall(r"\d[\d.,]* %|\b\d[\d,.]*\b", text.partition("gspo-rs report")[0])


def test_lists_of_rewards_are_reported_as_their_rows(tmp_path):
    said = [[{"role": "user", "content": f"{n}+1="}] for n in range(6)]
    frame = pl.DataFrame(
        {
            "prompt": said,
            "completion": [["a", "b", "c"][: 1 + n % 3] for n in range(6)],
            "reward": [[0.0, 1.0, 0.5][: 1 + n % 3] for n in range(6)],
            "model": [["m", "n", "m"][: 1 + n % 3] for n in range(6)],
        }
    )
    rows = frame.explode("completion", "reward", "model")
    gs.report(frame, tmp_path / "lists.html", by="prompt")
    gs.report(rows, tmp_path / "rows.html", by="prompt")
    found, expected = numbers(tmp_path / "lists.html"), numbers(tmp_path / "rows.html")
    assert "12" in expected
    assert found == expected


def test_rows_of_lists_that_are_groups_without_a_key_are_named_so_and_not_matched():
    frame = pl.DataFrame({"reward": [[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]]})
    page = gs.report(frame)
    assert "2 of 3 groups (66.7 %) have different rewards and can teach" in page.html
    assert "<code>gs.report(dataframe)</code>" in page.html
    assert "gs.filter(dataframe, keep=&#39;informative&#39;)" in page.html
    with pytest.raises(ValueError, match="two sources are matched by their keys: name these"):
        gs.report(frame, compare=frame)


def test_chats_are_found_by_their_names_however_their_messages_are_spelled():
    def page(role, content):
        chats = {
            name: [[{role: who, content: f"{name} {row // twice}"}] for row in range(4)]
            for name, who, twice in (("prompt", "human", 2), ("completion", "gpt", 1))
        }
        rows = {"id": [0, 0, 1, 1], **chats, "reward": [0, 1, 1, 0]}
        return gs.report(pl.DataFrame(rows), by="id").html

    shown = page("from", "value")
    assert "<main" in shown
    assert "first of its kind in its group: 4 (100 %)" in shown
    assert shown.partition("<main")[2] == page("role", "content").partition("<main")[2]
