"""What a client chooses the size of is not worked on in the event loop: no difflib, base64, search or rows × columns.

Looked at are the coroutines of the console and of the API, and what of ours they call there. What they give to a thread
(`asyncio.to_thread`) or to a child process is not.
"""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Final

import pytest

from tests.house.source import ROOT, modules, spot, tree

Function = ast.FunctionDef | ast.AsyncFunctionDef
Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
Loop = ast.For | ast.AsyncFor | Comprehension

BEGIN_IN: Final = ("mailerd/web", "mailerd/intake", "mailerd/operations")
LOOKED_AT: Final = (*BEGIN_IN, "mailerd/http", "mailerd/mail")
OF_CHILDREN: Final = "_child.py"
"""How a file ends that runs in a child process."""
BASE64: Final = {"b64encode", "b64decode", "urlsafe_b64encode", "urlsafe_b64decode"}
SEARCHES: Final = {"search", "sub", "subn", "split", "findall", "finditer"}

BOUNDS: Final = {
    "http/auth.py address loops": "a header",
    "http/auth.py for_check search": "LARGE_BODY bytes for a text that is fixed",
    "http/responses.py csv_lines loops": "ROWS_AT_ONCE rows of 18 columns",
    "intake/create_job.py dry_run loops": "BATCH messages; the sizes of each batch are counted in a thread",
    "intake/docs/library.py __init__ loops": "our own documents, once",
    "intake/docs/library.py _entry search": "our own documents, once",
    "intake/docs/library.py _joined search": "our own documents, once",
    "intake/docs/library.py _ordered search": "our own documents, once",
    "intake/docs/library.py _ranked loops": "the words of a query by the sections of our own documents",
    "intake/docs/library.py _terms loops": "MAX_QUERY characters",
    "intake/docs/library.py _terms search": "MAX_QUERY characters",
    "intake/docs/library.py _words loops": "our own documents, once",
    "intake/docs/library.py _words search": "our own documents, once",
    "intake/docs/library.py by_kind loops": "our own documents",
    "intake/docs/library.py mark search": "a word of our own documents",
    "intake/docs/library.py marked search": "a section of our own documents",
    "intake/docs/library.py search loops": "the words of a query of MAX_QUERY characters by MAX_HITS",
    "intake/docs/markdown.py anchor_of search": "our own documents, once",
    "intake/job_reader.py _take loops": "the rows of an answer of the child: a batch",
    "intake/openapi.py for_generators loops": "our own schemas, once",
    "intake/check_recipients.py _take loops": "the rows of an answer of the child: a batch",
    "intake/check_recipients.py _weigh loops": "_SIZE_BATCH messages; each is weighed in a thread",
    "operations/inputs.py field_errors loops": "the fields of a body of at most MAX_BODY, or of a batch of rows",
    "operations/suppressions.py _add loops": "what was stored of MAX_AT_ONCE suppressions; a command has its own loop",
    "intake/suppressions.py _rows loops": "ROWS_AT_ONCE suppressions, with turns in between",
    "web/look/lists_page.py _rows loops": "ROWS_AT_ONCE suppressions, with turns in between",
    "intake/senders.py _shown loops": "a page of senders by the aliases of the configuration",
    "intake/strict_json.py parse search": "a body of at most MAX_BODY; larger ones are parsed in a thread or a child",
    "intake/templates_endpoint.py _top search": "a variable's name",
    "intake/tests_of_jobs.py field_of search": "the path of a field, which is cut",
    "mail/mime.py check_filename search": "MAX_FILENAME characters",
    "mail/mime.py shown_headers search": "the headers of one message",
    "mail/recipient_table.py variable_name search": "a header of at most 255 characters",
    "mail/renderer.py _render loops": "the messages of a batch by their errors, of which each has few",
    "mail/renderer.py take loops": "the messages of an answer of the child by their errors",
    "mail/table_checker.py of_people loops": "a page of recipients by the four things that are said of each",
    "mail/template_library.py placed search": "MAX_SOURCE characters of a layout, one place in them",
    "mail/templates.py one_line search": "a field of a form of at most MAX_FORM",
    "mail/templates.py one_name search": "a field of a form of at most MAX_FORM",
    "web/look/chart_page.py pages loops": "the bars of a chart by the six kinds of results",
    "web/frame/charts.py bars_of loops": "the points of a chart by the six kinds of results",
    "web/look/job_page.py show search": "MAX_SUBJECT characters",
    "web/look/inbox_page.py read loops": "the senders of a key by MAX_NOTICES",
    "web/frame/rendered_message.py _texts loops": "a generator that is read piece by piece, with turns in between",
    "web/frame/rendered_message.py _texts search": "each place is a step of a generator",
    "web/frame/rendered_message.py _texts base64": "_PIECE bytes, with turns in between",
    "web/templates/template_form.py _plain search": "a file's name in a form, whose head the parser bounds",
    "web/templates/template_form.py read loops": "MAX_FIELDS fields by the five of a language",
    "web/send/post_job.py faults_of search": "MAX_SHOWN faults of MAX_REASON characters",
}
"""What may be done in the loop all the same, and its bound."""


@dataclass
class Module:
    """What the names of a file mean."""

    path: Path
    functions: dict[str, list[Function]] = field(default_factory=dict)
    """By name; that of a class stands for what makes one."""
    methods: dict[str, list[Function]] = field(default_factory=dict)
    offered: dict[str, list[Function]] = field(default_factory=dict)
    """Those of the classes that others know."""
    imported: dict[str, str] = field(default_factory=dict)
    """What a name stands for, with dots."""
    patterns: set[str] = field(default_factory=set)
    """Compiled regular expressions."""

    @cached_property
    def known(self) -> list["Module"]:
        """The modules of whose classes it may call a method: those that it imports something of."""
        paths = {file_of(dotted.rpartition(".")[0]) for dotted in self.imported.values()}
        return [module(path) for path in sorted(filter(None, paths))]

    @property
    def name(self) -> str:
        """As the bounds call it."""
        return str(self.path.relative_to(ROOT / "mailerd"))


@cache
def module(path: Path) -> Module:
    found = Module(path)
    in_classes = set[Function]()
    for node in ast.walk(tree(path)):
        match node:
            case ast.ClassDef(name=name, body=body):
                own = [it for it in body if isinstance(it, Function)]
                in_classes.update(own)
                found.functions[name] = [it for it in own if it.name in {"__init__", "__post_init__"}]
                for each in own:
                    for those in (found.methods, found.offered)[: 1 if name.startswith("_") else 2]:
                        those.setdefault(each.name, []).append(each)
            case ast.ImportFrom(module=str(source), names=names, level=0):
                found.imported |= {it.asname or it.name: f"{source}.{it.name}" for it in names}
            case ast.Import(names=names):
                found.imported |= {it.asname or it.name: it.name for it in names}
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value) if "re.compile(" in ast.unparse(
                value
            ):
                found.patterns.add(name)
            case _:
                pass
    for node in ast.walk(tree(path)):
        if isinstance(node, Function) and node not in in_classes:
            found.functions.setdefault(node.name, []).append(node)
    return found


@cache
def looked_at() -> frozenset[Path]:
    return frozenset(it for it in modules(*LOOKED_AT) if not it.name.endswith(OF_CHILDREN))


def file_of(source: str) -> Path | None:
    """The file of a module, if it is looked at."""
    path = ROOT.joinpath(*source.split(".")).with_suffix(".py")
    return path if path in looked_at() else None


def meant(dotted: str) -> Iterator[tuple[Module, Function]]:
    """The function that a dotted name stands for, if it is of a file that is looked at."""
    source, _, name = dotted.rpartition(".")
    if path := file_of(source):
        yield from ((module(path), each) for each in module(path).functions.get(name, ()))


def in_the_loop(function: Function) -> Iterator[ast.AST]:
    """The nodes of a function that run where it is called: not its own functions, nor what a thread is to run."""
    todo: list[ast.AST] = [*function.body]
    while todo:
        node = todo.pop()
        if isinstance(node, Function):
            continue
        yield node
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "asyncio.to_thread":
            todo += [it for it in node.args[1:] if not isinstance(it, ast.Lambda)]
        else:
            todo += ast.iter_child_nodes(node)


def called(where: Module, node: ast.AST) -> Iterator[tuple[Module, Function]]:
    """What may run because of a node: a function that it names, a method that it calls, a property."""
    match node:
        case ast.Name(id=name):
            yield from ((where, each) for each in where.functions.get(name, ()))
            yield from meant(where.imported.get(name, ""))
        case ast.Call(func=ast.Attribute(value=ast.Name(id=owner), attr=name)) if file_of(
            where.imported.get(owner, "")
        ):
            yield from meant(f"{where.imported[owner]}.{name}")
        case ast.Call(func=ast.Attribute(attr=name)):
            yield from ((where, each) for each in where.methods.get(name, ()))
            for it in where.known:
                yield from ((it, each) for each in it.offered.get(name, ()))
        case ast.Attribute(attr=name):
            properties = (
                each for each in where.methods.get(name, ()) if "property" in map(ast.unparse, each.decorator_list)
            )
            yield from ((where, each) for each in properties)
        case _:
            pass


def reached() -> Iterator[tuple[Module, Function]]:
    """Every function that may run in the event loop."""
    begin = (module(path) for path in modules(*BEGIN_IN) if path in looked_at())
    todo: list[tuple[Module, Function]] = [
        (it, each)
        for it in begin
        for some in (*it.functions.values(), *it.methods.values())
        for each in some
        if isinstance(each, ast.AsyncFunctionDef)
    ]
    seen = set[Function]()
    while todo:
        where, function = todo.pop()
        if function not in seen:
            seen.add(function)
            yield where, function
            todo += [each for node in in_the_loop(function) for each in called(where, node)]


def faults(where: Module, function: Function) -> Iterator[tuple[str, ast.AST]]:
    """What a function does in the loop that may take long, and where."""
    for node in in_the_loop(function):
        match node:
            case ast.Name(id=name) if where.imported.get(name, "").startswith("difflib"):
                yield "difflib", node
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in BASE64:
                yield "base64", node
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=how)) if how in SEARCHES:
                if where.imported.get(name) == "re" or name in where.patterns:
                    yield "search", node
            case _ if isinstance(node, Loop) and is_long(node) and any(map(is_long, inner_loops(node))):
                yield "loops", node
            case _:
                pass


def is_long(loop: Loop | ast.comprehension) -> bool:
    """Whether it goes over what may be long: not a constant, an enumeration or what is written there."""
    over = [loop.generators[0].iter] if isinstance(loop, Comprehension) else [loop.iter]
    return not any(
        isinstance(it, ast.Tuple | ast.List | ast.Set | ast.Dict)
        or (isinstance(it, ast.Name) and it.id.lstrip("_")[:1].isupper())
        for it in over
    )


def inner_loops(loop: Loop) -> Iterator[Loop | ast.comprehension]:
    """Those in its body; of a comprehension also its further ones."""
    if isinstance(loop, Comprehension):
        first, *others = loop.generators
        yield from others
        body = [it for it in ast.iter_child_nodes(loop) if not isinstance(it, ast.comprehension)]
        body += first.ifs
    else:
        body = [*loop.body]
    yield from (each for part in body for each in ast.walk(part) if isinstance(each, Loop))


def found() -> dict[str, list[str]]:
    """The faults by function and kind, as the bounds call them, and where they are."""
    places = dict[str, list[str]]()
    for where, function in reached():
        for what, node in faults(where, function):
            places.setdefault(f"{where.name} {function.name} {what}", []).append(spot(where.path, node))
    return places


def test_what_a_client_chooses_the_size_of_is_not_worked_on_in_the_loop() -> None:
    assert {name: where for name, where in found().items() if name not in BOUNDS} == {}


def test_every_bound_is_of_something_that_is_there() -> None:
    assert BOUNDS.keys() - found().keys() == set()


BAD: Final = {
    "difflib": "async def page(it):\n    return difflib.ndiff(it.a, it.b)",
    "base64": "async def page(it):\n    return _coded(it)\ndef _coded(it):\n    return b64encode(it.content)",
    "search": "async def page(it):\n    return _WORD.sub('', it.text)",
    "loops": "async def page(it):\n    for row in it.rows:\n        row.take([cell for cell in row])",
}
GOOD: Final = (
    "async def page(it):\n    return await asyncio.to_thread(_coded, it)\ndef _coded(it):\n    return b64encode(it)",
    "async def page(it):\n    return await asyncio.to_thread(lambda: _WORD.sub('', it.text))",
    "async def page(it):\n    return [[each, kind] for each in it.rows for kind in KINDS]",
)
HEAD: Final = "import asyncio, difflib, re\nfrom base64 import b64encode\n_WORD: Final = re.compile('x')\n"


def seen_in(source: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    path.write_text(HEAD + source)
    monkeypatch.setattr(sys.modules[__name__], "modules", lambda *_: [path])
    monkeypatch.setattr(sys.modules[__name__], "looked_at", lambda: frozenset([path]))
    return {what for where, function in reached() for what, _ in faults(where, function)}


@pytest.mark.parametrize("what", BAD)
def test_a_fault_is_seen(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert seen_in(BAD[what], tmp_path / "page.py", monkeypatch) == {what}


@pytest.mark.parametrize("source", GOOD)
def test_what_a_thread_does_is_none(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert seen_in(source, tmp_path / "page.py", monkeypatch) == set()
