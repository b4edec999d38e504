"""The guide of watching a run: what it shows fits a terminal, and its metrics are known."""

import re

from fixtures.places import ROOT
from gspo_rs.train.metric_table import described

PAGE = (ROOT / "docs" / "guides" / "watching.md").read_text()


def test_no_recorded_line_is_wider_than_80_columns_and_no_metric_is_unknown():
    recordings = re.findall(r"^```text\n(.*?)^```", PAGE, re.M | re.S)
    assert max(len(line) for line in recordings[0].splitlines()) <= 80
    assert max(len(line) for line in recordings[2].splitlines()) <= 80
    for row in re.findall(r"^\| .* \|$", PAGE, re.M)[2:]:
        for name in re.findall("`([a-z_0-9]+/?[a-z_0-9]+)`", row.split("|")[2]):
            assert described(name) is not None, name
