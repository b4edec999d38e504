"""The page about containers is the table of the matrix."""

from runpy import run_path

from fixtures.places import ROOT

FOLDER = ROOT / "docs" / "reference"


def test_the_page_of_containers_is_the_table_of_today():
    written = run_path(str(FOLDER / "write_containers.py"))["page"]()
    assert (FOLDER / "containers.md").read_text(encoding="utf-8") == written
