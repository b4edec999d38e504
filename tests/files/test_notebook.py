"""What a notebook shows of the results: their numbers, and texts of others as texts."""

from html.parser import HTMLParser

import polars as pl
import pytest

import gspo_rs as gs
from gspo_rs.files.scan import contents

HOSTILE = "<script>alert(1)</script>&amp;"
FRAME = pl.DataFrame(
    {
        "id": ["a", "a", "b"],
        "prompt": [HOSTILE] * 3,
        "completion": ["x", "y", "z"],
        "model": [HOSTILE, "m", "m"],
        "reward": [0.25, 1.0, 1.0],
    }
)


class Cells(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.texts = set(), []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.texts.append("")

    def handle_data(self, data):
        self.texts[-1] += data


def shown(found):
    """The texts of the cells, which have no tags but those of tables."""
    cells = Cells()
    cells.feed(found._repr_html_())
    assert cells.tags <= {"table", "thead", "tbody", "tr", "th", "td"}
    return cells.texts


def test_a_summary_of_what_was_written_has_its_counts(tmp_path):
    found = gs.filter(FRAME, tmp_path / "x.parquet", by="id", keep="reward:1..")
    texts = shown(found)
    assert texts[texts.index("rows") + 1] == "2"
    assert texts[texts.index("dropped") + 1] == "reward:1..: 1"
    scored = shown(gs.score(FRAME, tmp_path / "scored", by="id"))
    assert scored[scored.index("uninformative") + 1] == "1"


def test_the_parts_of_stats_are_rows_of_one_table_and_their_names_are_texts():
    found = gs.stats(FRAME, by="id", per="model", threshold=1.0)
    texts = shown(found)
    assert HOSTILE in texts
    assert f"{found[0].mean:.4g}" in texts
    assert texts.count("rows") == 1
    assert any(HOSTILE in text for text in shown(found[1]))


@pytest.mark.parametrize("column", ["prompt", HOSTILE])
def test_the_contents_of_a_source_show_its_texts_as_texts(column):
    assert HOSTILE in shown(contents(FRAME.rename({"prompt": column})))
