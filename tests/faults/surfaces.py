"""Asks every surface again and again: when it named the cause and the remedy, when it was calm, and when again."""

from __future__ import annotations

import asyncio
import html
import json
import re
import traceback
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import aiohttp

from mailerd.events.runbook import RUNBOOKS, pause_runbook
from tests.chaos.place import SENDER
from tests.faults.cases import SURFACES, Case
from tests.faults.scene import Scene, command, now, run, scene

WINDOW: Final = 45.0
"""Seconds for which a fault is looked at, at most."""
CALM_UNTIL: Final = 30.0
"""Seconds after which no surface may be calm."""
ENDS_WITHIN: Final = 90.0
"""Seconds within which the fault has to be over on every surface once its remedy was carried out: a pause that a person
has to end is tried again each minute."""
STAYS: Final = 6.0
"""Seconds for which it is looked at afterwards, whether it stays so."""
SHOW_NOW: Final = ("post", "ready", "console", "check", "top", "senders")
"""The surfaces that show what is, and so that it is over; log and alerts keep what was."""
_CLIENTS: Final = r"try again"
"""What an application is told to do that posts; who can end the fault is told elsewhere."""
_LEVELS: Final = frozenset({"WARNING", "ERROR", "CRITICAL"})
_LIGHTS: Final = ("good", "note", "warning", "bad")
_COLOURS: Final = ("green", "blue", "amber", "red")


@dataclass(frozen=True)
class Shown:
    """What one look at one surface showed."""

    text: str
    calm: bool
    """It says that all is well."""
    worst: str = ""
    """The colour of the worst that it shows, where it has colours."""
    rest: tuple[str, ...] = ()
    """Each trouble that it shows, as far as it can be told apart."""


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
    wrong: str = ""
    """What it has said that it must not."""

    def see(self, case: Case, shown: Shown, *, at: float, remedy: str) -> None:
        """One more look. `remedy`: what has to be advised, a regular expression."""
        text = shown.text
        named = bool(case.cause) and _says(case.cause, text)
        self.last, self.calm = text, shown.calm and not named
        if case.never and (found := re.search(case.never, text, re.IGNORECASE)):
            self.wrong = f"says {found[0]!r}"
        if case.most and shown.worst and _COLOURS.index(shown.worst) > _COLOURS.index(case.most):
            self.wrong = f"is {shown.worst}"
        if self.calm:
            self.calm_at = at
        elif self.showed is None:
            self.showed = at
        if named and self.cause is None:
            self.cause = at
        if named and self.remedy is None and _says(remedy, text):
            self.remedy = at

    def verdict(self, case: Case) -> str:
        """`calm` where it says that all is well, or has said so again; `other` where it shows something else.

        `wrong` where it has said what it must not, or in a worse colour. Where nothing is wrong it has to be calm.
        """
        if self.wrong:
            return "wrong"
        if not case.cause:
            return "" if self.calm else "other"
        late = self.calm_at > (case.within or CALM_UNTIL)
        if self.calm or late or (self.cause is not None and self.calm_at > self.cause):
            return "calm"
        return "" if _says(case.cause, self.last) else "other"


def _says(pattern: str, text: str) -> bool:
    return re.search(pattern, text, re.IGNORECASE | re.DOTALL) is not None


@dataclass
class Result:
    """A line of the table."""

    case: Case
    looks: dict[str, Look] = field(default_factory=dict)
    done: str = ""
    """What was done to end it: a command as it was advised, or what was told to be done."""
    failed: str = ""
    """How the remedy did not work; "": it did."""
    ends: dict[str, float] = field(default_factory=dict)
    """Seconds from the remedy until a surface showed that it is over; `sent`: until a message was sent."""

    def cell(self, surface: str) -> str:
        """Seconds until cause and remedy, and what is wrong with it."""
        if surface not in self.case.where:
            return "."
        it = self.looks[surface]
        said = "/".join("-" if at is None else f"{at:.0f}" for at in (it.cause, it.remedy))
        return f"{said if self.case.cause else ''} {it.verdict(self.case)}".strip() or "calm, as it is"

    def count(self, verdict: str) -> int:
        """How many surfaces have that verdict."""
        return sum(self.looks[one].verdict(self.case) == verdict for one in self.case.where)

    @property
    def ended(self) -> str:
        """How it was ended."""
        if self.failed:
            return f"FAILS: {self.failed}; done: {self.done}"
        if not self.case.mend or not self.case.mend.is_run:
            return self.done or "nothing to do"
        return f"works: {self.done}"

    @property
    def never_shown(self) -> int:
        """On how many surfaces no remedy was."""
        return sum(self.looks[one].remedy is None for one in self.case.where) if self.case.cause else 0

    @property
    def is_good(self) -> bool:
        """Whether nothing is wrong with it."""
        return not (self.failed or self.never_shown or any(map(self.count, ("calm", "other", "wrong"))))


async def measure(case: Case, *, window: float = WINDOW) -> Result:
    """Make the fault in a place of its own, and look; then end it as is advised, and look whether it is over."""
    async with scene(
        daemons=case.daemons, shift=case.shift, small=case.small, scopes=case.scopes, request_timeout=case.patience
    ) as it:
        result = Result(case, {surface: Look() for surface in SURFACES})
        cookies = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(cookie_jar=cookies, timeout=aiohttp.ClientTimeout(total=8)) as browser:
            await _sign_in(it, browser)
            before = {(each["check"], each["level"]) for each in await _findings(it)}
            posting = asyncio.create_task(it.post_forever())
            it.alerts.clear()
            it.posted = (0, "")
            await case.strike(it)
            watcher = _Watcher(it, result, browser, before, began=now())
            tasks = [asyncio.create_task(watcher.watch(name)) for name in case.where]
            try:
                await _until_told(case, result, window)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                await _end(watcher)
            finally:
                for task in (*tasks, posting):
                    task.cancel()
                await asyncio.gather(*tasks, posting, return_exceptions=True)
        return result


async def _sign_in(it: Scene, browser: aiohttp.ClientSession) -> None:
    async with browser.post(f"{it.url}/login", data={"key": it.here.key}, headers={"Origin": it.url}) as answer:
        if "/login" in str(answer.url) or answer.status != 200:
            raise RuntimeError(f"the console did not sign in: {answer.status} {await answer.text()}")


async def _until_told(case: Case, result: Result, window: float) -> None:
    """Wait until each surface has named the remedy, and a little longer, whether it stays so."""
    began = now()
    with suppress(TimeoutError):
        async with asyncio.timeout(case.window or window):
            while not case.cause or any(result.looks[name].remedy is None for name in case.where):  # noqa: ASYNC110
                await asyncio.sleep(0.5)
            await asyncio.sleep(max(5.0, case.lasts - (now() - began)))


async def _end(watcher: _Watcher) -> None:
    """Carry out what is advised, and see the end of the fault on every surface that shows what is."""
    it, result, case = watcher.it, watcher.result, watcher.result.case
    if case.mend is None or not case.mend.is_run:
        result.done = case.mend.told if case.mend else ""
        return
    try:
        if case.mend.act:
            await case.mend.act(it)
        result.done = case.mend.told
        if case.mend.command:
            advised = _advised(case.mend.command, result)
            result.done = "; ".join(filter(None, (result.done, f"`{advised}`".replace(str(it.here.folder), "..."))))
            code, said = await run(it, advised)
            assert code == 0, f"`{advised}` ends with {code}: {said[-500:]}"
        began = now()
        await asyncio.gather(
            _sees_a_message_sent(watcher, began), *(watcher.sees_end(name, began) for name in SHOW_NOW)
        )
        if case.mend.after:
            await case.mend.after(it)
        async with asyncio.timeout(60.0):
            await asyncio.gather(*(watcher.sees_it_stay(name, case.mend.stays or STAYS) for name in SHOW_NOW))
    except Exception as error:  # noqa: BLE001 - it is a result, and the others go on
        result.failed = str(error) or "".join(traceback.format_exception_only(error)).strip()


def _advised(pattern: str, result: Result) -> str:
    """The command as the surfaces show it: where they show different ones, that is a contradiction.

    Raises:
        AssertionError: none shows it, or they differ.
    """
    shown = {look.last for look in result.looks.values()}
    found = {match[1].strip() for text in shown for match in re.finditer(pattern, text)}
    if len(found) != 1:
        raise AssertionError(f"advised: {sorted(found) or 'no command'}")
    return found.pop()


async def _sees_a_message_sent(watcher: _Watcher, began: float) -> None:
    try:
        await watcher.it.send("afterwards", within=ENDS_WITHIN)
    except TimeoutError:
        raise AssertionError("no message is sent") from None
    watcher.result.ends["sent"] = now() - began


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
        """Look again and again while the fault lasts."""
        asks: dict[str, tuple[Callable[[], Awaitable[Shown]], float]] = {
            "log": (self._log, 0.5), "post": (self._post, 0.5), "ready": (self._ready, 0.5),
            "console": (self._console, 1.0), "check": (self._check, 3.0), "top": (self._top, 3.0),
            "senders": (self._senders, 1.0), "alert": (self._alert, 0.5),
        }  # fmt: skip
        (ask, every), case = asks[name], self.result.case
        while True:
            shown = await ask()
            remedy = f"{case.remedy}|{_CLIENTS}" if name == "post" else case.remedy
            self.result.looks[name].see(case, shown, at=now() - self.began, remedy=remedy)
            await asyncio.sleep(every)

    async def sees_end(self, name: str, began: float) -> None:
        """Look until it shows nothing of the fault.

        Raises:
            AssertionError: it goes on showing it.
        """
        left: tuple[str, ...] = ()
        try:
            async with asyncio.timeout(ENDS_WITHIN):
                while left := await self._left(name):  # noqa: ASYNC110 - it asks a surface
                    await asyncio.sleep(0.5)
        except TimeoutError:
            raise AssertionError(f"{name} still shows: {' | '.join(left)[:500]}") from None
        self.result.ends[name] = now() - began

    async def sees_it_stay(self, name: str, seconds: float) -> None:
        """Look for so long whether the trouble comes back.

        Raises:
            AssertionError: it does.
        """
        until = now() + seconds
        while now() < until:
            if left := await self._left(name):
                raise AssertionError(f"{name} shows afterwards: {' | '.join(left)[:500]}")
            await asyncio.sleep(0.5)

    async def _left(self, name: str) -> tuple[str, ...]:
        """What it shows that is not as before the fault, but for what is known to stay."""
        asks = {
            "post": self._post, "ready": self._ready, "console": self._console, "check": self._check,
            "top": self._findings_of_top, "senders": self._senders,
        }  # fmt: skip
        shown = await asks[name]()
        if shown.calm:
            return ()
        stays = self.result.case.leaves
        return tuple(each for each in shown.rest or (shown.text[:500],) if not (stays and _says(stays, each)))

    async def _log(self) -> Shown:
        said = []
        for line in self.it.here.daemons[0].runs[-1].log.read_text("utf-8", "replace").splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if str(event.get("level", "")).upper() in _LEVELS:
                said.append(f"{event.get('message', '')} {_explained(event)}")
        return Shown("\n".join(said), not said)

    async def _post(self) -> Shown:
        status, said = self.it.posted
        return Shown(said, status == 200)

    async def _ready(self) -> Shown:
        try:
            async with self.browser.get(f"{self.it.url}/health/ready") as answer:
                return Shown(await answer.text(), answer.status == 200, "green" if answer.status == 200 else "red")
        except (aiohttp.ClientError, TimeoutError) as error:
            return Shown(f"no answer: {error!r}", calm=False)

    async def _console(self) -> Shown:
        try:
            async with self.browser.get(f"{self.it.url}/") as answer:
                page = html.unescape(await answer.text())
        except (aiohttp.ClientError, TimeoutError) as error:
            return Shown(f"console: {error!r}", calm=False)
        lights = [
            (level, re.sub(r"<[^>]+>", " ", words))
            for level, words in re.findall(r'class="light (\w+)">(.*?)</div>', page, re.DOTALL)
        ]
        worst = _COLOURS[max((_LIGHTS.index(level) for level, _ in lights), default=0)]
        text = re.sub(r"<[^>]+>", " ", page)
        if lights and worst == "green":
            return Shown("", True, worst)
        return Shown(text, False, worst, tuple(words for level, words in lights if level != "good"))

    async def _check(self) -> Shown:
        found = await _findings(self.it)
        new = [each for each in found if (each["check"], each["level"]) not in self.before]
        said = tuple(f"{each}" for each in found if each in new or "clock" in each["check"])
        worst = "red" if any(each["level"] == "FAIL" for each in new) else "amber" if new else "green"
        if worst == "amber" and self.result.case.most == "blue":
            worst = ""  # it has one level for both
        return Shown("\n".join(said), not new, worst, tuple(f"{each}" for each in new))

    async def _top(self) -> Shown:
        """What the commands say; where nothing is wrong they have to say so as long as the daemon itself does."""
        if self.result.case.cause:
            return await self._commands()
        ready = [await self._ready()]
        shown = await self._commands()
        ready.append(await self._ready())
        return shown if all(each.calm for each in ready) else Shown("", calm=True)

    async def _commands(self) -> Shown:
        jobs = await command(self.it, "jobs", "list", "--json")
        open_jobs = re.findall(r'"job_id": "(\w+)"', jobs[1]) if jobs[0] == 0 else []
        told = await command(self.it, "explain", open_jobs[0] if open_jobs else self.it.job)
        page = await command(self.it, "top", "--once")
        text = re.sub(r"\s+", " ", f"{told[1]}\n{page[1]}")
        worst = (await self._findings_of_top()).worst if self.result.case.most else ""
        return Shown(text, told[0] == 0 and page[0] == 0, worst)

    async def _findings_of_top(self) -> Shown:
        code, said = await command(self.it, "top", "--json")
        if code:
            return Shown(said, calm=False)
        found = json.loads(said)["findings"]
        worst = _COLOURS[max((_COLOURS.index(each["severity"]) for each in found), default=0)]
        return Shown(said, not found, worst, tuple(f"{each}" for each in found))

    async def _senders(self) -> Shown:
        status, said = await self.it.ask(f"/api/senders/{SENDER}")
        if status != 200:
            return Shown(said, calm=False)
        shown = json.loads(said)
        told = {key: shown[key] for key in ("state", "pause", "finding", "signed_in")}
        return Shown(f"{told}", shown["finding"] is None and shown["state"] != "paused")

    async def _alert(self) -> Shown:
        return Shown("\n".join(self.it.alerts), not self.it.alerts)


def _explained(event: dict[str, object]) -> str:
    """What `journalctl -x` adds to a line."""
    name = str(event.get("event", ""))
    book = pause_runbook(str(event["cause"])) if name == "sender_paused" else RUNBOOKS.get(name)
    return re.sub(r"@MAILERD_(\w+)@", lambda found: str(event.get(found[1].lower(), found[0])), str(book or ""))


def table(results: list[Result]) -> str:
    """All of it."""
    bad = {verdict: sum(it.count(verdict) for it in results) for verdict in ("calm", "other", "wrong")}
    lines = [
        f"{'fault':<34}" + "".join(f"{surface:<14}" for surface in SURFACES),
        *(
            f"{it.case.name:<34}" + "".join(f"{it.cell(surface):<14}" for surface in SURFACES)
            + " ".join(f"({name}: {look.wrong})" for name, look in it.looks.items() if look.wrong)
            for it in results
        ),
        "seconds until the cause / the remedy; '-': never; '.': not asked of this surface; calm: it says that all is "
        "well, too late or again; other: it names something else; wrong: it says what it must not",
        "",
        f"{'remedy':<34}" + "".join(f"{name:<9}" for name in ("sent", *SHOW_NOW)) + "result",
        *(
            f"{it.case.name:<34}"
            + "".join(f"{_seconds(it.ends.get(name)):<9}" for name in ("sent", *SHOW_NOW))
            + it.ended
            for it in results
        ),
        "seconds from the remedy until a message was sent, and until each surface showed the end of the fault",
        "",
        f"{len(results)} faults; falsely calm: {bad['calm']}, contradictory: {bad['other'] + bad['wrong']}, remedies "
        f"never shown: {sum(it.never_shown for it in results)}, remedies that do not work: "
        f"{sum(bool(it.failed) for it in results)}",
    ]  # fmt: skip
    return "\n".join(lines)


def _seconds(at: float | None) -> str:
    return "-" if at is None else f"{at:.1f}"
