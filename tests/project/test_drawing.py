"""`make house`: what it draws of a tree that is small enough to draw by hand."""

import subprocess
import sys
from pathlib import Path

import pytest

from fixtures.places import ROOT

SCRIPT = ROOT / ".ci" / "house.py"

# Room b upon room a; a has two modules, of which the tests and the types look back.
PYTHON = {
    "__init__.py": '"""The top."""\n',
    "a/__init__.py": '"""A docstring\n\nof three lines."""\n\nfrom gspo_rs.a.low import x\n',
    "a/low.py": "# a comment\n\nx = '''two\nlines'''  # and one more\n",
    "b.py": "def f():\n    '''Say nothing.'''\n    from gspo_rs.a import low\n\n    return low\n",
}
RUST = {
    "lib.rs": "mod a;\nmod b;\npub use a::Thing;\n",
    "a/mod.rs": "//! Docs.\n\nmod low;\n#[cfg(test)]\nmod tests;\npub use low::Thing;\n",
    "a/low.rs": 'pub struct Thing; // crate::b\n/* crate::b */ const S: &str = "crate::b::{";\n',
    "a/tests.rs": "use crate::b::f;\n",
    "b.rs": "use crate::{Thing};\nfn f() {}\n#[cfg(test)]\nmod tests {\n    use super::f;\n}\n",
}


def written(root: Path, **changes: str) -> Path:
    for folder, files in (("python/gspo_rs", PYTHON), ("rust", RUST)):
        for name, text in files.items():
            path = root / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + changes.get(name, ""))
    return root


def drawn(root: Path) -> tuple[int, str]:
    run = subprocess.run([sys.executable, SCRIPT, root], capture_output=True, text=True)
    assert not run.stderr
    return run.returncode, run.stdout


def test_rooms_arrows_and_lines_are_those_counted_by_hand(tmp_path):
    code, text = drawn(written(tmp_path))
    assert code == 0
    assert text.splitlines()[-1] == "no circles"
    assert "python/gspo_rs: 3 entries, 2 rooms on 2 floors, 1 arrows, 4 modules, 6 lines" in text
    assert "rust: 3 entries, 2 rooms on 2 floors, 2 arrows, 4 modules, 9 lines of code" in text
    # The item goes by the top and by its room, and is written in neither.
    assert [line.split() for line in text.splitlines() if line.lstrip().startswith("1 b")] == [
        ["1", "b", "3", "a"],
        ["1", "b", "2", "a"],
    ]


@pytest.mark.parametrize(
    ("file", "line", "circle", "place"),
    [
        ("a/low.py", "import gspo_rs.b\n", "a b", "python/gspo_rs/a/low.py:5 uses b"),
        ("a/low.py", "from gspo_rs import b\n", "a b", "python/gspo_rs/a/low.py:5 uses b"),
        (
            "a/low.py",
            "def g():\n    import gspo_rs.b\n",
            "a b",
            "python/gspo_rs/a/low.py:6 uses b in a function",
        ),
        ("a/low.py", "from gspo_rs.a import x\n", "a a.low", "a/low.py:5 uses a"),
        ("a/low.rs", "use crate::b::f;\n", "a b", "rust/a/low.rs:3 uses b"),
        ("a/low.rs", "use crate::{\n    b::{self},\n};\n", "a b", "rust/a/low.rs:3 uses b"),
        ("a/low.rs", "fn g() { super::super::b::f() }\n", "a b", "rust/a/low.rs:3 uses b"),
        ("a/low.rs", "use super::low_of;\n", "a a.low", "rust/a/low.rs:3 uses a"),
    ],
)
def test_a_circle_is_refused_and_its_arrows_are_placed(tmp_path, file, line, circle, place):
    code, text = drawn(written(tmp_path, **{file: line}))
    assert code == 1
    assert f"  circle: {circle}\n" in text
    assert place in text
    assert text.endswith("1 circle\n")


def test_a_circle_that_only_types_close_is_printed_and_allowed(tmp_path):
    typed = "if TYPE_CHECKING:\n    from gspo_rs.b import f\n"
    code, text = drawn(written(tmp_path, **{"a/low.py": typed}))
    assert code == 0
    assert "circle for types alone, allowed: a b\n" in text
