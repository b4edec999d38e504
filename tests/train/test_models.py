"""The table of models: what it says of an architecture is what is measured."""

from importlib.metadata import version
from runpy import run_path

import pytest

from fixtures.places import ROOT

SCRIPT = run_path(str(ROOT / "docs" / "reference" / "write_models.py"))
STORED, verdict = SCRIPT["stored"](), SCRIPT["verdict"]
OF_THIS_VERSION = {one["transformers"] for one in STORED.values()} == {version("transformers")}

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:.*has no cache"),
]


def test_the_page_of_models_is_what_was_found():
    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    assert page == SCRIPT["page"]()


def test_most_architectures_of_transformers_work():
    counts: dict[str, int] = {}
    for one in STORED.values():
        counts[verdict(one)] = counts.get(verdict(one), 0) + 1
    assert counts["works"] >= 60
    assert counts["works"] + counts["works padded only"] >= 120


@pytest.mark.skipif(not OF_THIS_VERSION, reason="the table is of another transformers")
def test_the_table_has_every_causal_architecture_of_its_transformers():
    assert sorted(STORED) == SCRIPT["kinds"]()


def measured(kind, letters, folder):
    from oracles.architectures import stages

    found = {}
    for one in stages(kind, letters, folder):
        found |= one
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [
        *("llama", "qwen3", "gemma3_text", "qwen3_moe", "bamba", "bart", "git", "rwkv"),
        *("minicpm3", "recurrent_gemma", "xlstm"),
    ],
)
def test_an_architecture_does_what_the_table_says(kind, letters, tmp_path):
    assert verdict(measured(kind, letters, tmp_path)) == verdict(STORED[kind])


@pytest.mark.soak
@pytest.mark.skipif(not OF_THIS_VERSION, reason="the table is of another transformers")
@pytest.mark.parametrize("kind", [kind for kind, one in STORED.items() if "class" in one])
def test_every_architecture_does_what_the_table_says(kind, letters, tmp_path):
    assert verdict(measured(kind, letters, tmp_path)) == verdict(STORED[kind])
