"""A dash in a command line."""

import pytest

from fixtures.commands import command


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [("scan", "-"), ("scan", "--json", "-"), ("stats", "-", "--by", "a")]
)
def test_a_dash_is_standard_input_wherever_it_stands(words, tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"a":1,"reward":0.5}\n{"a":1,"reward":0.75}\n')
    with (tmp_path / "rows.jsonl").open() as rows:
        run = command(*words, stdin=rows)
    assert run.returncode == 0, run.stderr
    assert "2 rows" in run.stdout + run.stderr or '"rows": 2' in run.stdout
    # No command could read the stream again.
    assert "next" not in run.stdout + run.stderr
