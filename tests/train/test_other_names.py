"""The maps of names from TRL and verl, held to the code of both and to ours."""

import dataclasses
import importlib.util
import inspect
import re
import sys
from pathlib import Path

import pytest
import yaml

from fixtures.places import ROOT
from gspo_rs.groups.synonyms import meant
from gspo_rs.train.config.config import Config
from gspo_rs.train.config.keys import KEYS
from gspo_rs.train.config.sections import default_of

FIELDS = [field.name for field in dataclasses.fields(Config)]
FOLDER = ROOT / "docs" / "reference"


@pytest.fixture(scope="module")
def written():
    """The script that writes the pages, and its table of names."""
    sys.path.insert(0, str(FOLDER))
    try:
        return importlib.import_module("write_configuration")
    finally:
        sys.path.remove(str(FOLDER))


@pytest.mark.parametrize("page", ["configuration.md", "from_trl.md", "from_verl.md"])
def test_the_pages_of_the_configuration_are_what_their_script_writes(written, page):
    remedy = "python docs/reference/write_configuration.py"
    assert (FOLDER / page).read_text() == written.PAGES[page](), remedy


def test_each_field_stands_in_both_maps_and_nothing_else_does(written):
    assert list(written.TRL.keys() ^ set(FIELDS)) == []
    assert list(written.VERL.keys() ^ set(FIELDS)) == []


def test_each_name_of_another_trainer_is_answered_with_ours_on_the_command_line(written):
    for name, (theirs, _) in written.TRL.items():
        if theirs not in (name, "-") and theirs not in FIELDS:
            ours = [field for field, (other, _) in written.TRL.items() if other == theirs]
            assert set(meant(theirs, FIELDS, KEYS)) & set(ours), (theirs, name)


@pytest.fixture(scope="module")
def trl_fields():
    """TRL's names and their defaults."""
    trl = pytest.importorskip("trl")
    found = {}
    for config in (trl.ScriptArguments, trl.ModelConfig, trl.DPOConfig, trl.GRPOConfig):
        found |= {field.name: field.default for field in dataclasses.fields(config)}
    arguments = inspect.signature(trl.GRPOTrainer).parameters
    return {**dict.fromkeys(arguments), **found}


def test_trl_has_each_name_that_is_called_its(written, trl_fields):
    theirs = {other for other, _ in written.TRL.values() if other != "-"}
    assert not theirs - trl_fields.keys()
    assert not written.TRL_BESIDES.keys() - trl_fields.keys()
    assert not written.TRL_BESIDES.keys() & set(FIELDS)


def test_a_name_that_trl_has_too_is_in_the_map_as_its(written, trl_fields):
    both = {name for name in FIELDS if name in trl_fields}
    assert both == {name for name, (theirs, _) in written.TRL.items() if theirs == name}


def test_what_the_map_says_of_defaults_is_true_of_both(written, trl_fields):
    spelled = {"all": None, "on": True, "off": False}
    for name, (theirs, differs) in written.TRL.items():
        if theirs == name and not differs and name != "model":
            assert default_of(name) == trl_fields[name], name
        if found := re.match(r"`?(\w+)`? by default, `?(\w+)`? in TRL", differs):
            defaults = (default_of(name), trl_fields[theirs])
            for word, default in zip(found.groups(), defaults, strict=True):
                shown = getattr(default, "value", default)
                shown = int(shown) if isinstance(shown, float) else shown
                assert spelled.get(word, word) == shown or word == str(shown), name


def test_verl_has_each_key_that_is_called_its(written):
    spec = importlib.util.find_spec("verl")
    if spec is None:
        pytest.skip("verl is not installed")
    (folder,) = spec.submodule_search_locations
    path = Path(folder) / "trainer" / "config" / "_generated_ppo_trainer.yaml"
    keys = yaml.safe_load(path.read_text())
    for theirs, _ in written.VERL.values():
        if theirs != "-":
            *above, last = theirs.split(".")
            place = keys
            for part in above:
                place = place[part]
            assert last in place, theirs
