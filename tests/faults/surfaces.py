"""Asks every surface again and again while a fault lasts: when it named the cause, the remedy, and when it was calm."""

from __future__ import annotations

import asyncio
import html
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import aiohttp

from mailerd.events.runbook import RUNBOOKS, pause_runbook
from tests.faults.cases import SURFACES, Case
from tests.faults.scene import Scene, command, now, scene

WINDOW: Final = 45.0
"""Seconds for which a fault is looked at, at most."""
CALM_UNTIL: Final = 30.0
"""Seconds after which no surface may be calm."""
_LEVELS: Final = frozenset({"WARNING", "ERROR", "CRITICAL"})


@dataclass
class Look:
    """What one surface has shown so far. Times are seconds since the fault began."""

    cause: float | None = None
    remedy: float | None = None
    calm: bool = True
    """Whether the last look was."""
    calm_at: float = 0.0
    """When it was calm last."""
    showed: float | None = None
    """When it showed any trouble first."""
    last: str = ""

    def see(self, case: Case, text: str, *, calm: bool, at: float) -> None:
        """One more look."""
        named = re.search(case.cause, text, re.IGNORECASE | re.DOTALL) is not None
        self.last, self.calm = text, calm and not named
        if self.calm:
            self.calm_at = at
        elif self.showed is None:
            self.showed = at
        if named and self.cause is None:
            self.cause = at
        if named and self.remedy is None and re.search(case.remedy, text, re.IGNORECASE | re.DOTALL):
            self.remedy = at

    def verdict(self, case: Case) -> str:
        """`calm` where it says that all is well, or has said so again; `other` where it shows something else."""
        if self.calm or self.calm_at > CALM_UNTIL or (self.cause is not None and self.calm_at > self.cause):
            return "calm"
        return "" if re.search(case.cause, self.last, re.IGNORECASE | re.DOTALL) else "other"


@dataclass
class Result:
    """A line of the table."""

    case: Case
    looks: dict[str, Look] = field(default_factory=dict)

    def cell(self, surface: str) -> str:
        """Seconds until cause and remedy, and what is wrong with it."""
        if surface not in self.case.where:
            return "."
        it = self.looks[surface]
        said = "/".join("-" if at is None else f"{at:.0f}" for at in (it.cause, it.remedy))
        return f"{said} {it.verdict(self.case)}".rstrip()

    def count(self, verdict: str) -> int:
        """How many surfaces have that verdict."""
        return sum(self.looks[one].verdict(self.case) == verdict for one in self.case.where)


async def measure(case: Case, *, window: float = WINDOW) -> Result:
    """Make the fault in a place of its own, and look."""
    async with scene(daemons=case.daemons, shift=case.shift, small=case.small) as it:
        result = Result(case, {surface: Look() for surface in SURFACES})
        cookies = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(cookie_jar=cookies, timeout=aiohttp.ClientTimeout(total=8)) as browser:
            own = {"Origin": it.url}
            async with browser.post(f"{it.url}/login", data={"key": it.here.key}, headers=own) as answer:
                if "/login" in str(answer.url) or answer.status != 200:
                    raise RuntimeError(f"the console did not sign in: {answer.status} {await answer.text()}")
            before = {(each["check"], each["level"]) for each in await _findings(it)}
            posting = asyncio.create_task(it.post_forever())
            it.alerts.clear()
            await case.strike(it)
            watcher = _Watcher(it, result, browser, before, began=now())
            tasks = [asyncio.create_task(watcher.watch(name)) for name in case.where]
            try:
                async with asyncio.timeout(case.window or window):
                    while any(result.looks[name].remedy is None for name in case.where):  # noqa: ASYNC110 - surfaces
                        await asyncio.sleep(0.5)
                    await asyncio.sleep(5.0)  # whether it stays so
            except TimeoutError:
                pass
            finally:
                for task in (*tasks, posting):
                    task.cancel()
                await asyncio.gather(*tasks, posting, return_exceptions=True)
        return result


async def _findings(it: Scene) -> list[dict[str, str]]:
    """What `mailerd check` finds wrong."""
    _, said = await command(it, "check", "--json")
    try:
        found = json.loads(said[said.index("{") : said.rindex("}") + 1])
    except ValueError:
        return [{"check": "check", "level": "FAIL", "what": said, "remedy": ""}]
    results = next(value for value in found.values() if isinstance(value, list))
    return [
        {key: str(value) for key, value in each.items()} for each in results if "PASS" not in map(str, each.values())
    ]


@dataclass
class _Watcher:
    it: Scene
    result: Result
    browser: aiohttp.ClientSession
    before: set[tuple[str, str]]
    began: float

    async def watch(self, name: str) -> None:
        asks: dict[str, tuple[Callable[[], Awaitable[tuple[str, bool]]], float]] = {
            "log": (self._log, 0.5), "ready": (self._ready, 0.5), "console": (self._console, 1.0),
            "check": (self._check, 3.0), "top": (self._top, 3.0), "alert": (self._alert, 0.5),
        }  # fmt: skip
        ask, every = asks[name]
        while True:
            text, calm = await ask()
            self.result.looks[name].see(self.result.case, text, calm=calm, at=now() - self.began)
            await asyncio.sleep(every)

    async def _log(self) -> tuple[str, bool]:
        said = []
        for line in self.it.here.daemons[0].runs[-1].log.read_text("utf-8", "replace").splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if str(event.get("level", "")).upper() in _LEVELS:
                said.append(f"{event.get('message', '')} {_explained(event)}")
        return "\n".join(said), not said

    async def _ready(self) -> tuple[str, bool]:
        try:
            async with self.browser.get(f"{self.it.url}/health/ready") as answer:
                return await answer.text(), answer.status == 200
        except (aiohttp.ClientError, TimeoutError) as error:
            return f"no answer: {error!r}", False

    async def _console(self) -> tuple[str, bool]:
        try:
            async with self.browser.get(f"{self.it.url}/") as answer:
                page = html.unescape(await answer.text())
        except (aiohttp.ClientError, TimeoutError) as error:
            return f"console: {error!r}", False
        lights = re.findall(r'class="light (\w+)"', page)
        text = re.sub(r"<[^>]+>", " ", page)
        if lights and set(lights) <= {"good"}:
            return "", True
        return text, False

    async def _check(self) -> tuple[str, bool]:
        found = await _findings(self.it)
        new = [each for each in found if (each["check"], each["level"]) not in self.before]
        text = "\n".join(f"{each}" for each in found if each in new or "clock" in each["check"])
        return text, not new

    async def _top(self) -> tuple[str, bool]:
        jobs = await command(self.it, "jobs", "list", "--json")
        open_jobs = re.findall(r'"job_id": "(\w+)"', jobs[1]) if jobs[0] == 0 else []
        told = await command(self.it, "explain", open_jobs[0] if open_jobs else self.it.job)
        page = await command(self.it, "top", "--once")
        text = f"{told[1]}\n{page[1]}"
        return re.sub(r"\s+", " ", text), told[0] == 0 and page[0] == 0

    async def _alert(self) -> tuple[str, bool]:
        return "\n".join(self.it.alerts), not self.it.alerts


def _explained(event: dict[str, object]) -> str:
    """What `journalctl -x` adds to a line."""
    name = str(event.get("event", ""))
    book = pause_runbook(str(event["cause"])) if name == "sender_paused" else RUNBOOKS.get(name)
    return re.sub(r"@MAILERD_(\w+)@", lambda found: str(event.get(found[1].lower(), found[0])), str(book or ""))


def table(results: list[Result]) -> str:
    """All of it."""
    lines = [
        f"{'fault':<24}" + "".join(f"{surface:<14}" for surface in SURFACES) + "calm  other",
        *(
            f"{it.case.name:<24}" + "".join(f"{it.cell(surface):<14}" for surface in SURFACES)
            + f"{it.count('calm'):<6}{it.count('other')}"
            for it in results
        ),
        f"falsely calm: {sum(it.count('calm') for it in results)}, contradictory: "
        f"{sum(it.count('other') for it in results)}, remedies never shown: "
        f"{sum(it.looks[one].remedy is None for it in results for one in it.case.where)}",
        "seconds until the cause / the remedy; '-': never; '.': not asked of this surface; calm: it says that all is "
        "well, after 30 s or again; other: it names something else",
    ]  # fmt: skip
    return "\n".join(lines)
