"""Modules of the Python package: read by its own parser, never imported."""

import ast
import io
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path

from modules import LATER, LOADING, TYPES, Import, Modules, Name, find

NOT_CODE = {"COMMENT", "NL", "NEWLINE", "INDENT", "DEDENT", "ENCODING", "ENDMARKER"}


def python_modules(root: Path) -> Modules:
    """Read the modules of the package."""
    package = root / "python" / "gspo_rs"
    tree = Modules(package, find(package, ".py", ("__init__",)))
    for name, path in tree.files.items():
        text = path.read_text()
        tree.lines[name] = python_lines(text)
        for node, kind in import_nodes(ast.parse(text), LOADING):
            for dotted in imported_names(node):
                target = resolve_python(dotted, tree.files)
                if target not in (None, name):
                    tree.imports.append(Import(name, target, kind, node.lineno))
    return tree


def import_nodes(node: ast.AST, kind: str) -> Iterator[tuple[ast.Import | ast.ImportFrom, str]]:
    """Give every import below a node, with its kind."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield node, kind
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and kind == LOADING:
        kind = LATER
    children: Iterable[ast.AST] = ast.iter_child_nodes(node)
    if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
        for statement in node.body:
            yield from import_nodes(statement, TYPES)
        children = node.orelse
    for child in children:
        yield from import_nodes(child, kind)


def imported_names(node: ast.Import | ast.ImportFrom) -> list[str]:
    """Give the names that an import asks for, in full."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if node.level:
        raise SystemExit(f"line {node.lineno}: a relative import; write it from gspo_rs down")
    return [f"{node.module}.{alias.name}" for alias in node.names]


def resolve_python(dotted: str, files: dict[Name, Path]) -> Name | None:
    """Find the module that has a name: itself one, or in one."""
    package, *name = dotted.split(".")
    if package != "gspo_rs" or name[:1] == ["_core"]:
        return None
    return tuple(name) if tuple(name) in files else tuple(name[:-1])


def python_lines(text: str) -> int:
    """Count lines of code: no blanks, comments, docstrings."""
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if tokenize.tok_name[token.type] not in NOT_CODE:
            code |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Expr(value=ast.Constant(value=str()), lineno=first, end_lineno=int(last)):
                code -= set(range(first, last + 1))
    return len(code)
