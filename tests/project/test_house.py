"""The rules that keep the tree readable: floors, sizes, names, and a light import.

One test a rule; each lists everything that breaks it.
"""

import ast
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from fixtures.places import ROOT
from python_modules import python_lines
from rust_modules import rust_lines

PACKAGE = ROOT / "python" / "gspo_rs"
FOLDERS = ("python", "tests", "benches", "examples", ".ci")
PYTHON = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
RUST = sorted((ROOT / "rust").rglob("*.rs"))
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")
TORCH = {"torch", "transformers", "peft", "safetensors", "accelerate"}

# Each room with those it may import from, lowest first.
BELOW = {
    "groups": "",
    "rollouts": "groups",
    "data": "groups rollouts",
    "polars": "groups rollouts data",
    "files": "groups rollouts data",
    "report": "groups data files",
    "logprobs": "",
    "losses": "groups logprobs",
    "conformance": "groups losses rewards",
    "rewards": "groups rollouts data files samplers",
    "samplers": "rollouts data files",
    "train": "groups rollouts data files logprobs losses rewards samplers",
    "integrations": "groups rollouts data polars files losses rewards",
    "cli": "groups data files report conformance rewards samplers train",
}
# The same of the core; its errors, thread pool and packing are below every room.
BELOW_IN_RUST = {
    "error": "",
    "pool": "error",
    "pack": "error",
    "groups": "error pool",
    "stats": "error pool groups",
    "buffer": "",
    "keys": "error pool groups",
    "scoring": "error pool keys",
    "text": "",
    "py": "error pool pack groups stats buffer keys scoring text",
}
KNOWING_ARROW = ("keys", "scoring", "text", "py")
WITHOUT_TORCH = ("groups", "rollouts", "data", "polars", "files", "report")


@cache
def imported(path: Path) -> set[str]:
    """Modules that a file imports, at any depth."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0]


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_the_package_has_only_its_rooms():
    files = {"__init__.py", "_core.pyi", "py.typed"}
    entries = {p.name for p in PACKAGE.iterdir() if p.suffix != ".so" and p.name != "__pycache__"}
    assert entries == {*BELOW, *files}
    assert len(entries) <= 17


def test_rooms_import_only_from_the_rooms_below_them():
    above = [
        f"{relative(path)} imports {name}"
        for path in MODULES
        for name in sorted(imported(path))
        if name.startswith("gspo_rs.") and (room := name.split(".")[1]) in BELOW
        if room not in (room_of(path), *BELOW[room_of(path)].split())
    ]
    assert not above


def test_no_imports_run_in_a_circle():
    command = [sys.executable, ROOT / ".ci" / "house.py"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.stdout.endswith("\nno circles\n"), run.stdout + run.stderr
    assert "\nrust: " in run.stdout


def test_the_rooms_of_arrays_and_files_know_no_torch():
    assert not [
        relative(path)
        for path in MODULES
        if room_of(path) in WITHOUT_TORCH
        if {name.split(".")[0] for name in imported(path)} & TORCH
    ]


def test_losses_and_log_probabilities_neither_log_nor_draw_nor_wait():
    effect = re.compile(r"\.item\(\)|\blogging\b|\bopen\(|manual_seed|torch\.rand|print\(")
    assert not [
        relative(path)
        for path in MODULES
        if room_of(path) in ("logprobs", "losses") and effect.search(path.read_text())
    ]


def test_code_is_counted_without_comments_docstrings_and_blank_lines():
    text = '"""A module.\n\nOf two."""\n\n# Why.\nX = 1  # one\n"""What X is."""\nY = """\n\n"""\n'
    assert python_lines(text) == 4


def test_rust_code_is_counted_without_comments_blank_lines_and_modules_of_tests():
    test = "#[cfg(test)]\nmod tests {\n    fn f() {}\n}\n"
    assert rust_lines("//! One.\n\n/// Two.\nfn g() {}\n// Three.\n" + test) == 1


def test_files_have_at_most_300_lines_of_code():
    long = [path for path in [*PYTHON, *RUST] if len(path.read_text().splitlines()) > 300]
    lines = {".py": python_lines, ".rs": rust_lines}
    assert not [relative(path) for path in long if lines[path.suffix](path.read_text()) > 300]


def test_lines_are_at_most_100_columns():
    assert not [
        f"{relative(path)}:{number}"
        for path in [*PYTHON, *RUST]
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if len(line) > 100
    ]


def test_functions_are_at_most_40_lines_beside_their_docstring():
    long = []
    for path in PYTHON:
        for node in functions(path):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            size = (node.end_lineno - body[0].lineno + 1) if body else 0
            long += [f"{relative(path)}:{node.lineno} {node.name} has {size} lines"] * (size > 40)
    assert not long


def test_rust_functions_are_at_most_40_lines():
    long = []
    for path in RUST:
        lines = path.read_text().splitlines()
        for start, line in enumerate(lines):
            match = re.match(r"( *)(?:pub(?:\([a-z]+\))? )?fn (\w+)", line)
            # A `match` that gives each error its sentence is a table, not a procedure.
            if match and not line.endswith(("}", ";")) and "error" not in relative(path):
                size = next(i for i, end in enumerate(lines[start:]) if end == match[1] + "}")
                long += [f"{relative(path)}:{start + 1} {match[2]}"] * (size > 41)
    assert not long


def test_the_core_has_only_its_rooms_each_using_only_rooms_below_it():
    rooms = [path.relative_to(ROOT / "rust").parts[0].removesuffix(".rs") for path in RUST]
    assert {*rooms} == {*BELOW_IN_RUST, "lib"}
    above = []
    for path, room in zip(RUST, rooms, strict=True):
        for name in sorted(set(re.findall(r"\bcrate::(\w+)::", path.read_text()))):
            allowed = room == "lib" or name in (room, *BELOW_IN_RUST[room].split())
            above += [f"{relative(path)} uses {name}"] * (not allowed)
    assert not above


def test_rust_kernels_know_neither_python_nor_arrow():
    wrong = []
    for path in RUST:
        text, room = path.read_text(), path.relative_to(ROOT / "rust").parts[0]
        wrong += [f"{relative(path)} pyo3"] * (room != "py" and "pyo3" in text)
        wrong += [f"{relative(path)} Arrow"] * (room not in KNOWING_ARROW and "arrow_" in text)
    assert not wrong


def test_rust_is_safe():
    assert not [relative(path) for path in RUST if "unsafe" in path.read_text()]


def test_functions_take_at_most_five_positional_arguments():
    # autograd fixes the signatures of the first two, our interface that of the third; Triton takes
    # no arguments by keyword only.
    fixed = ("forward", "backward", "linear_gspo_loss")
    many = []
    for path in MODULES:
        for node in functions(path):
            if any("triton.jit" in ast.unparse(decorator) for decorator in node.decorator_list):
                continue
            names = [arg.arg for arg in [*node.args.posonlyargs, *node.args.args]]
            if len([name for name in names if name not in ("self", "cls")]) > 5:
                many += [f"{relative(path)} {node.name}"] * (node.name not in fixed)
    assert not many


def test_no_file_is_named_for_nothing_in_particular():
    banned = {"utils", "util", "helpers", "helper", "common", "misc"}
    assert not {path.stem for path in [*PYTHON, *RUST]} & banned


def test_nothing_is_pickled_and_no_foreign_code_is_trusted():
    wrong = re.compile(
        r"import pickle|torch\.save\(|trust_remote_code=True|except Exception:\n        pass"
    )
    assert not [relative(path) for path in MODULES if wrong.search(path.read_text())]


TESTS = [path for path in PYTHON if path.is_relative_to(ROOT / "tests")]


def test_tests_patch_modules_not_names_in_dots():
    # A name in a string is not found by who moves the module.
    assert not [relative(path) for path in TESTS if re.search(r'setattr\(\s*"', path.read_text())]


def test_tests_find_the_repository_in_one_place():
    wrong = re.compile(r"Path\(__file__\)\.parents")
    found = [path.stem for path in TESTS if wrong.search(path.read_text())]
    assert found == ["places"]


def loaded_by(statement: str) -> set[str]:
    script = f"import sys; {statement}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in run.stdout.split()}


def test_importing_gspo_rs_loads_nothing_of_another_package():
    assert not loaded_by("import gspo_rs") & {*TORCH, "numpy", "polars", "rich", "cyclopts"}


def test_an_array_function_loads_neither_torch_nor_polars():
    assert not loaded_by("from gspo_rs import rank") & {*TORCH, "polars", "rich", "cyclopts"}


def test_the_command_line_loads_neither_torch_nor_numpy():
    assert not loaded_by("import gspo_rs.cli") & {*TORCH, "numpy", "polars"}


def test_reading_a_configuration_loads_no_torch():
    assert not loaded_by("from gspo_rs.train import Config; Config") & TORCH


# Words that had two meanings, or that the field has another one for; see docs/glossary.md.
BANNED = {"lesson", "harvest", "census", "yardstick", "workplace", "bell", "told"}


def words_of(path: Path) -> set[str]:
    """The words that the names in a file are made of, in lower case."""
    if path.suffix == ".rs":
        text = re.sub(r"//.*|\"(?:[^\"\\]|\\.)*\"", "", path.read_text())
        names = set(re.findall(r"\b[A-Za-z_]\w*", text))
    else:
        with tokenize.open(path) as file:
            tokens = tokenize.generate_tokens(file.readline)
            names = {token.string for token in tokens if token.type == tokenize.NAME}
    parts = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
    return {word.lower().removesuffix("s") for name in names for word in parts.findall(name)}


def test_no_name_is_a_word_that_the_glossary_has_another_for():
    # The old names of public functions stay importable.
    public = (PACKAGE / "data" / "__init__.py", PACKAGE / "integrations" / "torch_data.py")
    found = {
        relative(path): words
        for path in [*MODULES, *RUST]
        if path not in public and (words := words_of(path) & BANNED)
    }
    assert not found
