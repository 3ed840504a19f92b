"""The English sentences in the code of which no `Text` is made: what people would read in English in any language."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.house.source import spot, tree

_WORDS = re.compile(r"[A-Za-z]{2,}[,:;.)]? [(`'\"]?[A-Za-z{]")
_NO_WORDS = re.compile(
    r"\b(?:SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER|FROM|WHERE|AND|ORDER BY|SET|JOIN|VALUES|COUNT|LIMIT|UNION|CONCAT)\b"
    r"|SKIP LOCKED|_TIMESTAMP|SHOW [A-Z]|IS NULL|%s|\bIF\(|CONVERT\(|DUPLICATE|\b[rjs]\.\w|^\(?[a-z]+(?:, [a-z_]+){5}"
    r"|^(?:sandbox; )?default-src |; charset=UTF-8$"
    r"|^\w+\[.*\]$|^event: |^attachment; |^To: "
    r"|^(?:mailerd|make|systemctl|timedatectl) [a-z-]+(?: |$)(?![\w ]*,)|^(?:[A-Z][a-z]+-)+[A-Z][\w-]+: |^<|^ *File \""
)
"""SQL, annotations, headers, markup and commands."""
_CODE_OF_A_STEP = re.compile(r"[a-z]+\.[a-z_]+(?: (?:[a-z]+=)?\{\w+\})*")
"""A transaction or a loop, as the log names it: `messages.record {recipient}`."""
_CJK = re.compile(r"[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]")
_NOT_SAID = {
    "compile",
    "fullmatch",
    "TypeVar",
    "ContextVar",
    "field_validator",
    "deprecated",
    "getLogger",
    "create_task",
    "Sql",
    "t",
    "tn",
    "tc",
    "N_",
}
"""Calls whose texts nobody reads, and those of which `tools/messages.py` reads the templates itself."""


_WRAPPED: Final = {"t", "tn", "tc", "N_", "reason", "verbatim"}
"""Calls that make a text of a template; `tools/messages.py` reads those."""


@dataclass(frozen=True)
class Sentence:
    """One text of the code; `{name}` stands for each value that is put into it."""

    template: str
    spot: str

    @property
    def key(self) -> str:
        """The template without the names of its fields."""
        return key(self.template)


def key(template: str) -> str:
    """A template without the names of its fields, so that the code and the tables can be compared."""
    return re.sub(r"\{{1,2}\w+(?::[^{}]*)?\}{1,2}", "{}", template)


def sentences(path: Path) -> Iterator[Sentence]:
    """Every text of a module with two words or more that is not made a `Text` of."""
    yield from _below(tree(path), path)


def _below(node: ast.AST, path: Path) -> Iterator[Sentence]:
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.JoinedStr() | ast.Constant(value=str()):
                found = template(child)
                if _WORDS.search(found) and not _NO_WORDS.search(found) and not _CODE_OF_A_STEP.fullmatch(found):
                    yield Sentence(found, spot(path, child))
                if isinstance(child, ast.JoinedStr):
                    yield from _inside(child, path)
            case _ if _is_silent(child):
                pass
            case ast.Call() if called(child) in _WRAPPED:
                for each in (*child.args, *(given.value for given in child.keywords)):
                    if not isinstance(each, ast.Constant):
                        yield from _below(ast.Expression(each), path)
            case _:
                yield from _below(child, path)


def _is_silent(node: ast.AST) -> bool:
    """Whether nobody reads the texts in it at the surfaces that are counted."""
    match node:
        case ast.Expr(value=ast.Constant(value=str())):
            return True  # a docstring
        case ast.Call():
            return called(node) in _NOT_SAID
        case ast.keyword(arg="description"):
            return True  # of a setting or of a field: config.example.toml and openapi.json are English
        case ast.keyword(arg="help"):
            return True  # of an option: `lazy_group.helps` reads them all
        case _:
            return False


def _inside(joined: ast.JoinedStr, path: Path) -> Iterator[Sentence]:
    """The texts in the expressions of a formatted string."""
    for part in joined.values:
        if isinstance(part, ast.FormattedValue):
            yield from _below(ast.Expression(part.value), path)


def called(call: ast.Call) -> str:
    """The last name of what is called."""
    return ast.unparse(call.func).rpartition(".")[2]


def template(node: ast.JoinedStr | ast.Constant) -> str:
    """A text with the names of its fields."""
    if isinstance(node, ast.Constant):
        return str(node.value).replace("{", "{{").replace("}", "}}")
    found, taken = "", set[str]()
    for part in node.values:
        if isinstance(part, ast.Constant):
            found += str(part.value).replace("{", "{{").replace("}", "}}")
        elif isinstance(part, ast.FormattedValue):
            name = unique(_name(part.value), taken)
            taken.add(name)
            found += f"{{{name}}}"
    return found


def unique(name: str, taken: set[str]) -> str:
    """A name that no other field of the template has."""
    return next(each for each in (name, *(f"{name}{number}" for number in range(2, 99))) if each not in taken)


def _name(value: ast.expr) -> str:
    match value:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name.lower().strip("_") or "it"
        case ast.Call(args=[first, *_]) if not isinstance(first, ast.Starred | ast.Constant | ast.JoinedStr):
            return _name(first)
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            return name.lower().strip("_") or "it"
        case ast.Subscript(value=inner) | ast.BoolOp(values=[inner, *_]) | ast.IfExp(body=inner):
            return _name(inner)
        case _:
            return "it"


def is_chinese(text: str) -> bool:
    """Whether there is any Chinese in a text."""
    return _CJK.search(text) is not None


_CODE = re.compile(r"`[^`]*`|https?:\S+|\{[^}]*\}|\([a-z0-9_, ]+\)|[\w./$@<>=-]*[._/@<>=][\w./$@<>=-]*")


def english_left(text: str) -> list[str]:
    """The English in a Chinese text: three words in a row that are no code and no name."""
    return re.findall(r"[A-Za-z][a-z']*,?(?: [a-z']+,?){2,}", _CODE.sub("·", text))
