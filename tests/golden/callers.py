"""Who asks: an administrator, a limited key, that of another tenant, some that may less; and who types commands."""

import json
import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import datetime
from functools import partial, reduce
from pathlib import Path
from typing import Any, Final, override

import aiohttp

from tests.golden.asks import Ask
from tests.golden.plain import Plain, changed_rows
from tests.golden.scene import Scene, drafts
from tests.support.heard import PATIENCE
from tests.support.prepared import PreparedProcess
from tests.support.recycled import TABLES
from tests.support.tables import Contents, Tables
from tests.web.conftest import SAME, ConsoleSite

ALL: Final = ("admin", "mine", "theirs")
_OF_REQUESTS: Final = {"request_answered", "request_refused", "probe_answered", "anonymous_answered"}
"""Events of every request, which say what its answer does; some come after it, and not all of many are logged."""
_PASSING: Final = {"Content-Length", "Content-Type", "Date", "Server", "X-Request-ID"}
_USUAL: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
"""Headers that are told where an answer lacks them."""
# What a person's locale and terminal are changes what commands print.
_ENVIRONMENT: Final = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "LC_ALL": "C.UTF-8", "TZ": "UTC"}


class Moments(Tables):
    """They are told as they stand: time stands still."""

    @override
    def _said(self, value: object) -> str:
        return str(value) if isinstance(value, datetime) else self.said(value)


class World:
    """What there is, and what an act changes of it: rows, and what the daemon says; it is put back after each."""

    def __init__(self, site: ConsoleSite, scene: Scene, tables: Tables) -> None:
        self.site, self.scene, self._tables = site, scene, tables
        self._before, self._sums = Contents(), dict[str, int]()

    def keep(self) -> None:
        """What there is now."""
        self._tables.keep()
        self._before, self._sums = self._tables.rows_of(TABLES), self._tables.sums()

    async def act(self, act: Callable[[], Awaitable[dict[str, Any]]], plain: Plain) -> dict[str, Any]:
        """The answer, with what was changed and said."""
        heard = len(self.site.heard.events)
        answer = await act()
        touched = [table for table, found in self._tables.sums().items() if found != self._sums[table]]
        if touched:
            before = {table: self._before[table] for table in touched}
            answer["changes"] = plain.value(changed_rows(before, self._tables.rows_of(touched)))
            await self.look()
        answer |= self.events(heard, plain)
        if touched:
            self._tables.put_back()
            await self.look()
            assert self._tables.sums() == self._sums
        return answer

    async def look(self) -> None:
        """Let the daemon read its counts, as it does every few seconds; what commands have done is logged then."""
        stats = self.site.daemon.service.stats
        stats.take(await stats.read())

    def events(self, since: int, plain: Plain) -> dict[str, list[str]]:
        """Those that were logged after so many others."""
        found = [
            plain.event(name, fields) for name, fields in self.site.heard.events[since:] if name not in _OF_REQUESTS
        ]
        return {"events": found} if found else {}

    def filled(self, template: Any) -> Any:
        """With the id of each thing in the place of its name."""
        text = json.dumps(template)
        for name, number in self.scene.ids.items():
            text = text.replace("{" + name + "}", number)
        return json.loads(text)


class Callers:
    """Each asks the API and the console."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._plain = dict[str, Plain]()
        self._browsers = {"nobody": world.site.visitor()}

    async def sign_in(self) -> None:
        """Those that have a key, at the console, where one has drafts."""
        scene = self.world.scene
        for name, key in scene.keys.items():
            self._browsers[name] = await self.world.site.sign_in(key)
        scene.ids.update(await drafts(self._browsers["mine"]))
        self._plain = {name: Plain(scene.ids, name) for name in (*scene.keys, "nobody")}

    async def call(self, method: str, ask: Ask, *, callers: Collection[str] = ALL) -> dict[str, Any]:
        """What the API answers each of them."""

        async def one(caller: str) -> dict[str, Any]:
            headers = {"X-API-Key": self.world.scene.keys[caller]} if caller != "nobody" else {}
            path, body = self.world.filled(ask.path), self.world.filled(ask.body)
            async with (
                aiohttp.ClientSession(self.world.site.url, headers=headers) as client,
                client.request(method, path, json=body) as response,
            ):
                plain, answer = self._plain[caller], dict[str, Any](status=response.status)
                if head := plain.value(self._head(response.headers)):
                    answer["head"] = head
                if response.content_type == "application/json":
                    return answer | {"body": plain.value(await response.json())}
                return answer | {"body": plain.text(await response.text()).splitlines()}

        return await self._each(one, callers, changes=method != "GET")

    async def open(
        self, path: str, form: Mapping[str, str] | None = None, *, callers: Collection[str] = ALL, language: str = "en"
    ) -> dict[str, Any]:
        """What the console shows each of them; with a form, after it was sent."""

        async def one(caller: str) -> dict[str, Any]:
            method, headers = "POST" if form else "GET", SAME | {"Accept-Language": language}
            here, data = self.world.filled(path), self.world.filled(form)
            async with self._browsers[caller].request(method, here, data=data, headers=headers) as response:
                plain, text, at = self._plain[caller], await response.text(), str(response.url.relative())
                shown = plain.page(text) if response.content_type == "text/html" else plain.text(text).splitlines()
                shown = [line.replace(f"<{plain.text(here.partition('?')[0])}>", "<here>") for line in shown]
                answer = {"status": response.status} | ({"at": plain.text(at)} if at != here else {})
                if form:
                    return answer | {"said": [line for line in shown if "{said}" in line]}
                return answer | {"shown": shown}

        return await self._each(one, callers, changes=bool(form))

    @staticmethod
    def _head(headers: Mapping[str, str]) -> dict[str, str | None]:
        """What is unusual of it."""
        found = {name: it for name, it in headers.items() if name not in _PASSING and _USUAL.get(name) != it}
        return found | {name: None for name in _USUAL if name not in headers}

    async def _each(
        self, one: Callable[[str], Awaitable[dict[str, Any]]], callers: Collection[str], *, changes: bool
    ) -> dict[str, Any]:
        if changes:
            return {it: await self.world.act(partial(one, it), self._plain[it]) for it in callers}
        return {it: await one(it) for it in callers}


class Operator:
    """Types commands."""

    def __init__(self, world: World, prepared: PreparedProcess, folder: Path) -> None:
        self._world, self._prepared, self._folder = world, prepared, folder
        self._plain = Plain(world.scene.ids, "none")

    async def type(self, command: str, *, changes: bool = False, config: str = "mailerd") -> dict[str, Any]:
        """The exit code, and what is printed."""
        ids = self._world.scene.ids
        words = [reduce(lambda word, it: word.replace("{" + it[0] + "}", it[1]), ids.items(), word)
                 for word in re.findall(r"{[^}]+}|\S+", command)]  # fmt: skip

        async def one() -> dict[str, Any]:
            code, out = await self._prepared.mailerd(
                *words, "--config", f"{config}.toml", cwd=self._folder, within=PATIENCE, environment=_ENVIRONMENT
            )
            try:
                return {"code": code, "printed": self._plain.value(json.loads(out))}
            except ValueError:
                return {"code": code, "printed": self._plain.text(out.decode()).splitlines()}

        return await self._world.act(one, self._plain) if changes else await one()
