"""What `gspo_rs` offers: names that load when they are asked for."""

import ast
import pkgutil
import subprocess
import sys
from importlib import import_module
from inspect import signature
from pathlib import Path

import pytest

import gspo_rs as gs

SOURCE = Path(gs.__file__)


def seen_by_type_checkers():
    """Which module each name comes from, in what only a type checker runs."""
    (block,) = [node for node in ast.parse(SOURCE.read_text()).body if isinstance(node, ast.If)]
    assert ast.unparse(block.test) == "TYPE_CHECKING"
    return {
        alias.name: line.module.removeprefix("gspo_rs.")
        for line in block.body
        for alias in line.names
        if line.module not in ("inspect", "typing")
    }


def test_type_checkers_see_the_names_where_they_are_loaded_from():
    assert seen_by_type_checkers() == gs.MODULE_OF | {name: name for name in gs.CALLED}
    assert sorted({*gs.MODULE_OF, *gs.CALLED}) == sorted(gs.__all__)


@pytest.mark.parametrize("name", gs.MODULE_OF)
def test_a_name_is_the_thing_of_its_module_and_is_kept(name):
    found = getattr(gs, name)
    assert found is getattr(import_module(f"gspo_rs.{gs.MODULE_OF[name]}"), name)
    assert vars(gs)[name] is found


def test_no_name_is_that_of_a_module_which_would_come_in_its_place():
    modules = {module.name for module in pkgutil.iter_modules(gs.__path__)}
    assert {"groups", "_core", "rollouts"} <= modules
    assert modules & set(gs.__all__) == {*gs.CALLED}


@pytest.mark.parametrize("name", gs.CALLED)
def test_a_module_that_is_a_verb_is_called_as_its_function(name):
    module = import_module(f"gspo_rs.{name}")
    assert getattr(gs, name) is module
    assert signature(module) == signature(getattr(module, name))
    with pytest.raises((TypeError, ValueError), match=r"argument|model"):
        module()


@pytest.mark.slow
def test_names_are_listed_before_they_are_loaded_and_come_with_a_star():
    script = (
        "import gspo_rs as gs, sys; print({*gs.__all__} <= {*dir(gs)}, 'numpy' in sys.modules)\n"
        "from gspo_rs import *; print(percentile([0.0, 1.0], ['a', 'a']).tolist())"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout == "True False\n[0.0, 1.0]\n"


def test_an_unknown_name_is_an_attribute_error_as_of_any_module():
    with pytest.raises(AttributeError, match="'gspo_rs' has no attribute 'percentiles'"):
        gs.percentiles  # noqa: B018


def test_names_are_found_where_they_were_before():
    """Paths that code outside may import, where what they name has moved to a room."""
    for path, names in {
        "data": "Census Prompts prompts rollouts scan take_census",
        "files.selection": "apply select write_selection",
        "groups": "Groups",
        "rewards": "load score",
        "rollouts": "Ragged Rollouts",
        "sampling": "generate",
        "train": "Config Result train",
    }.items():
        module = import_module(f"gspo_rs.{path}")
        for name in names.split():
            assert callable(getattr(module, name))
    assert import_module("gspo_rs.data").take_census is import_module("gspo_rs.data").index_groups


def test_a_name_that_a_moved_module_never_had_is_an_attribute_error():
    with pytest.raises(AttributeError, match="generates"):
        import_module("gspo_rs.sampling").generates  # noqa: B018
