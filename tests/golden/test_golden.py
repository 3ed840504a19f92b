"""What the API, the console and the commands answer, compared with the files beside this one.

`GOLDEN=write pytest tests/golden` writes them anew; what changes there is what a caller notices.
"""

import json
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from difflib import unified_diff
from functools import reduce
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from mailerd.intake.routes import OPERATIONS
from tests.golden.asks import ASKS, Ask
from tests.golden.commands import DONE, SHOWN
from tests.golden.pages import FORMS, PAGES
from tests.golden.plain import Plain, changed_rows
from tests.golden.scene import Scene, furnish
from tests.support.heard import PATIENCE
from tests.support.prepared import PreparedProcess, prepared_for_commands
from tests.support.proxy import Proxy
from tests.support.rows import query
from tests.support.tables import Tables
from tests.web.conftest import EXAMPLES, ConsoleSite

HERE: Final = Path(__file__).parent


def compare(name: str, answers: Mapping[str, Any]) -> None:
    """With the file of this name; or write it. What is as before is told so."""
    file, found, known = HERE / f"{name}.json", dict[str, Any](), dict[str, str]()
    for asked, answer in answers.items():
        first = known.setdefault(json.dumps(answer), asked)
        found[asked] = answer if first == asked else f"as {first}"
    if os.environ.get("GOLDEN") == "write":
        file.write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    kept = json.loads(file.read_text(encoding="utf-8"))
    if diff := [*unified_diff(_lines(kept), _lines(found), "kept", "found", lineterm="", n=12)]:
        pytest.fail("\n".join(diff))


def _lines(found: Mapping[str, Any]) -> list[str]:
    return json.dumps(found, ensure_ascii=False, indent=1).splitlines()


class Callers:
    """Each of the three asks the API and the console; the tables are put back after each change."""

    def __init__(self, site: ConsoleSite, scene: Scene, tables: Tables) -> None:
        self._site, self._scene, self._tables = site, scene, tables
        self._plain = {name: Plain(scene.ids, name) for name in scene.keys}
        self._browsers = dict[str, aiohttp.ClientSession]()

    async def sign_in(self) -> None:
        """Each at the console."""
        for name, key in self._scene.keys.items():
            self._browsers[name] = await self._site.sign_in(key)

    async def call(self, method: str, ask: Ask, **how: Any) -> dict[str, Any]:
        """What the API answers each of them."""

        async def one(caller: str) -> dict[str, Any]:
            headers = {"X-API-Key": self._scene.keys[caller]}
            async with (
                aiohttp.ClientSession(self._site.url, headers=headers) as client,
                client.request(method, self._filled(ask.path), json=self._filled(ask.body)) as response,
            ):
                plain, answer = self._plain[caller], {"status": response.status}
                if response.content_type == "application/json":
                    return answer | {"body": plain.value(await response.json())}
                return answer | {"body": plain.text(await response.text()).splitlines()}

        return await self._each(one, **{"changes": method != "GET", **how})

    async def open(self, path: str, form: Mapping[str, str] | None = None, **how: Any) -> dict[str, Any]:
        """What the console shows each of them; with a form, after it was sent."""

        async def one(caller: str) -> dict[str, Any]:
            method = "POST" if form else "GET"
            async with self._browsers[caller].request(method, self._filled(path), data=self._filled(form)) as response:
                plain, text = self._plain[caller], await response.text()
                shown = plain.page(text) if response.content_type == "text/html" else plain.text(text).splitlines()
                answer = {"status": response.status, "at": plain.text(str(response.url.relative()))}
                if form:
                    return answer | {"said": [line for line in shown if "{said}" in line]}
                return answer | {"shown": shown}

        return await self._each(one, **{"changes": bool(form), **how})

    async def _each(
        self, one: Callable[[str], Awaitable[dict[str, Any]]], *, changes: bool, callers: Collection[str] = ()
    ) -> dict[str, Any]:
        """By caller; one that hears the same as another before it is told so."""
        found = dict[str, Any]()
        for caller in callers or self._scene.keys:
            before = self._tables.read() if changes else {}
            answer = await one(caller)
            if changes and (changed := changed_rows(before, self._tables.read())):
                answer["changes"] = self._plain[caller].value(changed)
                self._tables.put_back()
            same = next((name for name, known in found.items() if known == answer), None)
            found[caller] = f"as {same}" if same else answer
        return found

    def _filled(self, template: Any) -> Any:
        text = json.dumps(template)
        for name, number in self._scene.ids.items():
            text = text.replace("{" + name + "}", number)
        return json.loads(text)


@pytest.fixture
async def callers(site: ConsoleSite, database_url: str) -> AsyncIterator[Callers]:
    scene, tables = await furnish(site), Tables(database_url)
    made = Callers(site, scene, tables)
    await made.sign_in()
    tables.keep()
    yield made
    tables.close()


async def test_every_operation_answers_each_caller_as_ever(callers: Callers) -> None:
    compare("api", {it.id: {ask.case: await callers.call(it.method, ask) for ask in ASKS[it.id]} for it in OPERATIONS})


async def test_every_page_shows_each_caller_what_it_did(callers: Callers) -> None:
    compare("pages", {path: await callers.open(path) for path in PAGES})


async def test_every_form_does_for_each_caller_what_it_did(callers: Callers) -> None:
    compare("forms", {f"{path} {form}": await callers.open(path, form) for path, form in FORMS})


async def test_while_the_database_is_unavailable_api_and_console_say_so(callers: Callers, proxy: Proxy) -> None:
    await proxy.refuse()
    await proxy.reset_all()
    calls = {
        it.id: await callers.call(it.method, ASKS[it.id][0], callers=["admin"], changes=False) for it in OPERATIONS
    }
    pages = {path: await callers.open(path, callers=["admin"]) for path in PAGES}
    compare("unavailable", calls | pages)


class Operator:
    """Types commands."""

    def __init__(self, prepared: PreparedProcess, folder: Path, scene: Scene, tables: Tables) -> None:
        self._prepared, self._folder, self._tables = prepared, folder, tables
        self._plain, self._ids = Plain(scene.ids, "none"), scene.ids

    async def type(self, command: str) -> dict[str, Any]:
        """The exit code, and what is printed."""
        words = [reduce(lambda word, it: word.replace("{" + it[0] + "}", it[1]), self._ids.items(), word)
                 for word in re.findall(r"{[^}]+}|\S+", command)]  # fmt: skip
        before = self._tables.read()
        code, out = await self._prepared.mailerd(*words, "--config", "mailerd.toml", cwd=self._folder, within=PATIENCE)
        answer: dict[str, Any] = {"code": code}
        try:
            answer["printed"] = self._plain.value(json.loads(out))
        except ValueError:
            answer["printed"] = self._plain.text(out.decode()).splitlines()
        if changed := changed_rows(before, self._tables.read()):
            answer["changes"] = self._plain.value(changed)
            self._tables.put_back()
        return answer


@pytest.fixture
async def operator(
    site: ConsoleSite, database_url: str, tmp_path: Path, for_children: PreparedProcess
) -> AsyncIterator[Operator]:
    scene, tables = await furnish(site), Tables(database_url)
    await query(site.database, "DELETE FROM daemons")
    tables.keep()
    config = tmp_path / "mailerd.toml"
    config.write_text(
        f'[database]\nurl = "{database_url}"\n'
        f'[gmail]\ncredentials_dir = "{tmp_path}"\n'
        f'[templates]\nfolder = "{EXAMPLES}"\n'
    )
    config.chmod(0o600)
    with prepared_for_commands(for_children) as prepared:
        yield Operator(prepared, tmp_path, scene, tables)
    tables.close()


async def test_every_command_prints_what_it_did(operator: Operator) -> None:
    shown = {f"{it}{how}": await operator.type(it + how) for it in SHOWN for how in ("", " --json")}
    compare("commands", shown | {it: await operator.type(it) for it in DONE})
