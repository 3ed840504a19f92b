"""The tree as the house tests read it: files, syntax trees, functions and calls. It alone knows what belongs to us."""

import ast
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The checkout."""

_NOT_OURS = {"__pycache__", "build", "dist", "node_modules"}
_HIDDEN_BUT_OURS = {".ci", ".gitignore"}


def ours() -> Iterator[Path]:
    """Every file that belongs to the project; what tools leave behind is hidden or named in `_NOT_OURS`."""
    for path in sorted(ROOT.iterdir()):
        if path.name.startswith(".") and path.name not in _HIDDEN_BUT_OURS:
            continue
        if path.name in _NOT_OURS or path.suffix == ".egg-info":
            continue
        below = path.rglob("*") if path.is_dir() else [path]
        yield from (file for file in below if file.is_file() and not _NOT_OURS.intersection(file.parts))


def texts() -> Iterator[tuple[Path, str]]:
    """Every file of ours that is text, with its text."""
    for path in ours():
        try:
            yield path, path.read_text("utf-8")
        except UnicodeDecodeError:
            continue  # a picture has no words that a rule could be about


def modules(*folders: str) -> list[Path]:
    """The Python files in some folders."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


@cache
def tree(path: Path) -> ast.Module:
    """A file's syntax."""
    return ast.parse(path.read_text("utf-8"), str(path))


def spot(path: Path, node: ast.AST | int) -> str:
    """Where something is, as an editor takes it."""
    line = node if isinstance(node, int) else getattr(node, "lineno", 1)
    return f"{path.relative_to(ROOT)}:{line}"


def lines(path: Path) -> int:
    """How many lines a file has."""
    return len(path.read_text("utf-8").splitlines())


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method of a file."""
    return (node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def docstrings(path: Path) -> Iterator[str]:
    """Every docstring of a file, those behind constants and fields too."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.value.value


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function, from its `def` to its last."""
    return (function.end_lineno or function.lineno) - function.lineno + 1


_NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


@cache
def tokens(path: Path) -> list[int]:
    """The line of each token of code: neither comments nor docstrings, nor what a formatter adds but for a comma."""
    told = {
        line
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    with path.open(encoding="utf-8") as source:
        found = [it for it in tokenize.generate_tokens(source.readline) if it.type not in _NO_CODE]
    return [it.start[0] for it in found if it.start[0] not in told]


def calls(path: Path) -> Iterator[ast.Call]:
    """Every call in a file."""
    return (node for node in ast.walk(tree(path)) if isinstance(node, ast.Call))


def imports(path: Path) -> Iterator[tuple[str, ast.AST]]:
    """The dotted name of every module that a file imports, and where."""
    for node in ast.walk(tree(path)):
        match node:
            case ast.Import(names=names):
                yield from ((name.name, node) for name in names)
            case ast.ImportFrom(module=str(module), level=0):
                yield module, node
            case _:
                pass
