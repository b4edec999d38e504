"""The tables of the guide of data formats are those of the code."""

from fixtures.places import ROOT
from gspo_rs.data.formats import SUFFIXES
from gspo_rs.data.known_schemas import SCHEMAS

PAGE = (ROOT / "docs" / "guides" / "data_formats.md").read_text()


def test_it_names_every_suffix_and_every_schema():
    for suffix in SUFFIXES:
        bare = suffix.removesuffix(".gz").removesuffix(".zst")
        assert f"`{bare}`" in PAGE
    for schema in SCHEMAS:
        row = next(line for line in PAGE.splitlines() if line.startswith(f"| {schema.name[:12]}"))
        assert all(f"`{name}`" in row for name in (*schema.has, *schema.prompt, *schema.reward))
