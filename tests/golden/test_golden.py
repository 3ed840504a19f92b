"""What the API, the console and the commands answer, compared with the files beside this one.

`make golden` writes them anew; what changes there is what a caller notices.
"""

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from yarl import URL

from mailerd.cli import lazy_group
from mailerd.intake.routes import OPERATIONS
from mailerd.web import page_routes
from tests.golden.asks import ASKS
from tests.golden.callers import Callers, Moments, Operator, World
from tests.golden.commands import DONE, ELSEWHERE, MODULES, SHOWN
from tests.golden.kept import compare
from tests.golden.pages import FORMS, PAGES
from tests.golden.scene import furnish
from tests.support.ports import free_port
from tests.support.prepared import PreparedProcess, prepared_for_commands
from tests.support.proxy import Proxy
from tests.support.rows import query
from tests.web.conftest import EXAMPLES, ConsoleSite


@pytest.fixture
async def world(site: ConsoleSite, still_url: str) -> AsyncIterator[World]:
    tables = Moments(still_url)
    yield World(site, await furnish(site), tables)
    tables.close()


@pytest.fixture
async def callers(world: World) -> Callers:
    made = Callers(world)
    await made.sign_in()
    world.keep()
    return made


def test_every_page_form_and_command_is_asked() -> None:
    paths, sent = {it.partition("?")[0] for it in PAGES}, {path for path, _ in FORMS}
    addresses = [(re.compile(re.sub(r"{\w+}", "[^/]+", path)), show, act) for path, show, act in page_routes.PAGES]
    assert [it for it, show, _ in addresses if show and not any(map(it.fullmatch, paths))] == []
    assert [it for it, _, act in addresses if act and not any(map(it.fullmatch, sent))] == []
    typed = [*SHOWN, *DONE]
    assert [it for it in _commands() if not any(f"{one} ".startswith(f"{it} ") for one in typed)] == []


def _commands() -> Iterator[str]:
    for name in lazy_group.COMMANDS.keys() - ELSEWHERE:
        command = lazy_group.load(name)
        for below in getattr(command, "commands", {"": None}):
            yield f"{name} {below}".strip()


async def test_every_operation_answers_each_caller_as_ever(callers: Callers) -> None:
    compare("api", {it.id: {ask.case: await callers.call(it.method, ask) for ask in ASKS[it.id]} for it in OPERATIONS})


async def test_every_page_shows_each_caller_what_it_did(callers: Callers) -> None:
    compare("pages", {path: await callers.open(path) for path in PAGES})


async def test_every_form_does_for_each_caller_what_it_did(callers: Callers) -> None:
    compare("forms", {f"{path} {form}": await callers.open(path, form) for path, form in FORMS})


async def test_every_page_and_form_is_said_in_chinese_as_ever(callers: Callers) -> None:
    pages = {path: await callers.open(path, callers=["admin"], language="zh") for path in PAGES}
    forms = {f"{path} {form}": await callers.open(path, form, callers=["admin"], language="zh") for path, form in FORMS}
    compare("chinese", pages | forms)


@pytest.mark.parametrize("caller", ["nobody", "reader", "usual"])
async def test_who_may_less_is_refused_as_ever(callers: Callers, caller: str) -> None:
    """`nobody` has no key, `reader` may look, and nothing is named that `usual`, a key for some senders, may."""
    asked = {it.id: await callers.call(it.method, ASKS[it.id][0], callers=[caller]) for it in OPERATIONS}
    asked |= {path: await callers.open(path, callers=[caller]) for path in PAGES}
    asked |= {f"{path} {form}": await callers.open(path, form, callers=[caller]) for path, form in FORMS}
    compare(caller, {name: _refusal(answer[caller]) for name, answer in asked.items()})


def _refusal(answer: dict[str, Any]) -> dict[str, Any]:
    """Of what is not refused only that, and where it led."""
    is_refused = answer["status"] >= 400
    return _silent(answer) if is_refused else {name: it for name, it in answer.items() if name in {"status", "at"}}


def _silent(answer: dict[str, Any]) -> dict[str, Any]:
    """What is logged of those without a key, and without a database, is a matter of time."""
    return {name: it for name, it in answer.items() if name != "events"}


async def test_while_the_database_is_unavailable_api_and_console_say_so(callers: Callers, proxy: Proxy) -> None:
    await proxy.refuse()
    await proxy.reset_all()
    asked = {it.id: await callers.call(it.method, ASKS[it.id][0], callers=["admin"]) for it in OPERATIONS}
    asked |= {path: await callers.open(path, callers=["admin"]) for path in PAGES}
    asked |= {f"{path} {form}": await callers.open(path, form, callers=["admin"]) for path, form in FORMS}
    compare("unavailable", {name: _silent(answer["admin"]) for name, answer in asked.items()})


@pytest.fixture
async def operator(
    world: World, still_url: str, tmp_path: Path, for_children: PreparedProcess
) -> AsyncIterator[Operator]:
    await query(world.site.database, "DELETE FROM daemons")
    world.keep()
    for name, url in (("mailerd", still_url), ("away", str(URL(still_url).with_port(free_port())))):
        config = tmp_path / f"{name}.toml"
        config.write_text(
            f'[database]\nurl = "{url}"\n'
            f'[gmail]\ncredentials_dir = "{tmp_path}"\n'
            f'[templates]\nfolder = "{EXAMPLES}"\n'
        )  # fmt: skip
        config.chmod(0o600)
    with prepared_for_commands(for_children, *MODULES) as prepared:
        yield Operator(world, prepared, tmp_path)


async def test_every_command_prints_what_it_did(operator: Operator) -> None:
    shown = {f"{it}{how}": await operator.type(it + how) for it in SHOWN for how in ("", " --json")}
    compare("commands", shown | {it: await operator.type(it, changes=True) for it in DONE})


async def test_while_the_database_is_unavailable_every_command_says_so(operator: Operator) -> None:
    compare("commands_unavailable", {it: await operator.type(it, config="away") for it in (*SHOWN, *DONE)})
