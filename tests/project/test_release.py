"""A version is one number, wherever it is read."""

import datetime
import re
import tomllib

import gspo_rs as gs
from fixtures.places import ROOT

VERSION = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["version"]


def headings():
    return re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)


def test_the_newest_released_version_is_that_of_cargo_and_of_the_core():
    unreleased, newest, *_ = headings()
    assert unreleased == "Unreleased"
    version, day = re.fullmatch(r"(\S+) \((.+)\)", newest).groups()
    assert version == VERSION == gs.__version__
    assert datetime.date.fromisoformat(day)


def test_the_version_is_written_down_in_cargo_alone():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "version" not in project
    assert project["dynamic"] == ["version"]
    assert VERSION not in (ROOT / "rust/py/mod.rs").read_text()
