"""The forge does what `make` does: nothing of its own, nothing that can change under it."""

import re
import tomllib

import pytest

from fixtures.places import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, flags=re.MULTILINE))
CI = (ROOT / ".github" / "workflows" / "ci.yml").read_text()


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_only_calls_make_by_pinned_actions_and_may_only_read(path):
    text = path.read_text()
    commands = re.findall(r"\brun: (.*)", text)
    assert commands
    assert all(command.startswith("make ") for command in commands)
    actions = re.findall(r"\buses: (\S+)", text)
    assert all(re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", action) for action in actions)
    assert re.findall(r"^permissions:\n((?:  .+\n)+)", text, flags=re.MULTILINE) == [
        "  contents: read\n"
    ]
    assert text.count("permissions:") == 1


def test_every_target_that_ci_makes_exists_and_what_it_must_make_is_among_them():
    made = " ".join(re.findall(r"target: ([a-z -]+?),", CI)).split()
    assert {*made} <= TARGETS
    assert {"lint", "house", "test", "msrv", "wheel"} <= {*made}


def test_ci_tests_the_oldest_python_that_the_package_allows():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    tested = re.findall(r'target: test, python: "([\d.]+)"', CI)
    assert f">={tested[0]}" == project["requires-python"]
    assert len(tested) == 2


def test_every_target_of_the_documents_exists():
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    pages += [*(ROOT / ".github").rglob("*.md"), ROOT / ".pre-commit-config.yaml"]
    for page in pages:
        for line in re.findall(r"`make ([^`]+)`", page.read_text()):
            words = [word for word in line.split() if re.fullmatch(r"[a-z-]+", word)]
            assert {*words} <= TARGETS, f"{page.name}: make {line}"


def test_the_release_page_names_the_oldest_rust_that_cargo_promises():
    oldest = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["rust-version"]
    assert f": {oldest}, because" in (ROOT / "docs" / "release.md").read_text()
