"""Every verb on every container: the values of plain Polars, or an error that names the remedy."""

import re
import sys

import pytest

from matrix.containers import CONTAINERS
from matrix.refusals import applies, refusal
from matrix.rows import scored_rows
from matrix.verbs import VERBS, Cell

CELLS = [
    pytest.param(verb, container, id=f"{verb}-{container}")
    for container in CONTAINERS
    for verb in VERBS
    if applies(verb, container)
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Each container, written once, with the rows that are to be read from it."""
    found = {}

    def make(name):
        if name not in found:
            rows, container = scored_rows(), CONTAINERS[name]
            source = container.make(rows, tmp_path_factory.mktemp("source"))
            found[name] = source, container.kept(rows)
        return found[name]

    return make


@pytest.fixture
def cell_of(made, tmp_path, monkeypatch):
    def cell(name):
        if name.endswith("datasets") or name.startswith("save_to_disk"):
            pytest.importorskip("datasets")
        source, rows = made(name)
        if name == "standard input":
            monkeypatch.setattr(sys, "stdin", source.open())
            source = "-"
        return Cell(CONTAINERS[name], source, rows, tmp_path)

    return cell


@pytest.mark.slow
@pytest.mark.parametrize(("verb", "container"), CELLS)
def test_a_verb_reads_a_container_as_polars_does_or_names_the_remedy(verb, container, cell_of):
    cell, expected = cell_of(container), refusal(verb, container)
    if expected is None:
        VERBS[verb](cell)
        return
    with pytest.raises((ValueError, TypeError, OSError)) as error:
        VERBS[verb](cell)
    assert re.search(expected.remedy, str(error.value))
