"""Modules of the Rust crate, without their tests, and where the items they use are written.

An item is looked for through everyone who hands it on with `use`: Rust has no order of loading,
so that an arrow to the one who hands on would be none.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from modules import LOADING, Import, Modules, Name, find

# Text that is no code: comments, strings (also raw ones), characters.
RUST_TEXT = re.compile(
    r"(?P<comment>//[^\n]*|/\*.*?\*/)"
    r'|r(?P<hashes>#*)".*?"(?P=hashes)|"(?:\\.|[^"\\])*"'
    r"|'(?:\\[^\n][^'\n]*|[^\\'\n])'",
    re.DOTALL,
)
RUST_USE = re.compile(r"\buse\s+([^;]+);")
RUST_PATH = re.compile(r"(?<![\w:])(?:\w+::)+\w+")


def rust_modules(root: Path) -> Modules:
    """Read the modules of the crate, without their tests."""
    files = find(root / "rust", ".rs", ("lib", "mod"))
    texts = {name: without_text(path.read_text()) for name, path in files.items()}
    tests = set()
    for name, text in texts.items():
        texts[name], elsewhere = without_tests(text)
        tests |= {(*name, test) for test in elsewhere}
    texts = {name: text for name, text in texts.items() if name not in tests}
    files = {name: files[name] for name in texts}
    tree = Modules(root / "rust", files)
    uses = {name: list(used_paths(name, text, texts)) for name, text in texts.items()}
    names = {
        module: {alias: path for alias, path, _ in found if alias} for module, found in uses.items()
    }
    for name, text in texts.items():
        tree.lines[name] = written_lines(text)
        for _, path, line in uses[name]:
            target = resolve_rust(path, names)
            if target != name:
                tree.imports.append(Import(name, target, LOADING, line))
    return tree


def rust_lines(source: str) -> int:
    """Count lines of code: no blanks, comments, nothing that is compiled only for tests."""
    return written_lines(without_tests(without_text(source))[0])


def written_lines(text: str) -> int:
    """Count the lines that are not blank."""
    return sum(1 for line in text.splitlines() if line.strip())


def without_text(source: str) -> str:
    """Take comments out and make strings blank of meaning; lines stay where they are."""
    return RUST_TEXT.sub(lambda m: re.sub(r"[^\n]", " " if m["comment"] else "_", m[0]), source)


def without_tests(text: str) -> tuple[str, list[str]]:
    """Take out what is compiled only for tests, and name its modules that are files."""
    elsewhere = []
    while match := re.search(r"#\[cfg\(test\)\]", text):
        end = end_of_item(text, match.end())
        item = text[match.start() : end]
        elsewhere += re.findall(r"\bmod\s+(\w+);$", item)
        text = text[: match.start()] + re.sub(r"[^\n]", " ", item) + text[end:]
    return text, elsewhere


def end_of_item(text: str, start: int) -> int:
    """Find where the item that begins at `start` ends: at a semicolon or its last brace."""
    depth = 0
    for place in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0 and text[place] in ";}":
            return place + 1
    return len(text)


def used_paths(
    module: Name, text: str, files: dict[Name, str]
) -> Iterator[tuple[str | None, Name, int]]:
    """Give the paths of ours that a module names: the name it goes by, the path, the line."""
    inline = [
        (match.end(), end_of_item(text, match.end() - 1))
        for match in re.finditer(r"\bmod\s+\w+\s*\{", text)
    ]
    found: list[tuple[int, str | None, Name]] = [
        (match.start(), alias, path)
        for match in RUST_USE.finditer(text)
        for alias, path in use_tree(match[1])
    ]
    # Paths outside of `use`; those inside of it are not complete.
    rest = RUST_USE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
    found += [(m.start(), None, tuple(m[0].split("::"))) for m in RUST_PATH.finditer(rest)]
    for place, alias, path in found:
        depth = sum(start <= place < end for start, end in inline)
        if full := absolute(path, module, depth, files):
            yield alias if depth == 0 else None, full, text.count("\n", 0, place) + 1


def use_tree(tree: str) -> Iterator[tuple[str, Name]]:
    """Take the braces of a `use` apart into names and the paths that they stand for."""
    match = re.fullmatch(r"\s*([\w:]*?)(?:::)?\{(.*)\}\s*", tree, re.DOTALL)
    if match is None:
        path, _, alias = (part.strip() for part in tree.partition(" as "))
        parts = tuple(part for part in path.split("::") if part)
        if parts:
            yield alias or parts[-1], parts
        return
    depth, branches = 0, [""]
    for sign in match[2]:
        depth += {"{": 1, "}": -1}.get(sign, 0)
        if sign == "," and depth == 0:
            branches.append("")
        else:
            branches[-1] += sign
    before = tuple(part for part in match[1].split("::") if part)
    for alias, rest in (pair for branch in branches for pair in use_tree(branch)):
        whole = before if rest == ("self",) else before + rest
        yield whole[-1] if alias == "self" else alias, whole


def absolute(path: Name, module: Name, depth: int, files: dict[Name, str]) -> Name | None:
    """Write a path from the crate down; None if it is of another crate."""
    first = path[0]
    if first == "crate":
        return path[1:]
    if first not in ("self", "super"):
        return module + path if module + path[:1] in files else None
    while path and path[0] in ("self", "super"):
        if path[0] == "super" and depth == 0:
            module = module[:-1]
        elif path[0] == "super":
            depth -= 1
        path = path[1:]
    return module + path


def resolve_rust(path: Name, names: dict[Name, dict[str, Name]]) -> Name:
    """Find the module where a path's item is written, through everyone who hands it on."""
    at: Name = ()
    seen = set()
    while path:
        here = (*at, path[0])
        if here in names:
            at, path = here, path[1:]
        elif path[0] in names[at] and (at, path[0]) not in seen:
            seen.add((at, path[0]))
            at, path = (), names[at][path[0]] + path[1:]
        else:
            break
    return at
