"""What the pages of the console use: queries, actions, and what they share with the API."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, NoReturn, Protocol
from urllib.parse import unquote
from zoneinfo import ZoneInfo

from aiohttp import web

from mailerd.clock import Clock
from mailerd.config import Live, Settings
from mailerd.core.i18n import Language, t
from mailerd.core.models import ClaimedRecipient
from mailerd.core.senders import Authorization
from mailerd.core.situation import Facts
from mailerd.core.states import JobType, State
from mailerd.core.stats import QueueStats, SenderStats
from mailerd.events.intake import WebEvents
from mailerd.http.auth import ApiKeyAuth, KeyShares
from mailerd.http.responses import not_allowed, not_found
from mailerd.mail.copied_draft import DraftCopier
from mailerd.mail.mime import Envelope
from mailerd.mail.renderer import Renderer
from mailerd.mail.spreadsheet import SpreadsheetReader
from mailerd.mail.template_library import NamedTemplate, TemplateLibrary
from mailerd.mail.templates import Content
from mailerd.rate_limited_gmail import PersonalDrafts
from mailerd.store.api_keys import ApiKey, ApiKeys, Permission, Sessions
from mailerd.store.console_queries import ConsoleQueries
from mailerd.store.db.database import Database
from mailerd.store.describe import heard_of, waits_for
from mailerd.store.forecast_inputs import ForecastReader
from mailerd.store.history import HistoryReader
from mailerd.store.job_actions import JobActions
from mailerd.store.jobs import Job, Jobs
from mailerd.store.queue.rate_limits import DefaultLimits
from mailerd.store.stats import StatsReader, Tallies
from mailerd.store.templates import TemplateStore
from mailerd.web.guards import cookie_name
from mailerd.web.html import PageRenderer, said
from mailerd.web.shared_reads import SharedReads

MAX_LISTED: Final = 50
"""Lines of one page of a list."""
TIMEOUT: Final = 2.0
"""Seconds that the database gets for one question of a page."""


class TemplateCalls(Protocol):
    """What the API does with its templates: checks one, stores a version, publishes it, archives; or an ApiError."""

    @property
    def store(self) -> TemplateStore: ...
    async def checked(
        self, name: str, raw: bytearray, key: ApiKey
    ) -> tuple[NamedTemplate, dict[str, bytes], str | None]: ...
    async def save(self, name: str, raw: bytearray, key: ApiKey, *, actor: str) -> tuple[str, bool]: ...
    async def publish_version(self, name: str, version: str, *, expect: str | None, actor: str) -> bool: ...
    async def archive_template(self, name: str, *, actor: str) -> None: ...


@dataclass
class Services:
    """Everything that a page may ask."""

    settings: Settings
    database: Database
    jobs: Jobs
    actions: JobActions
    forecasts: ForecastReader
    history: HistoryReader
    keys: ApiKeys
    sessions: Sessions
    tallies: Tallies
    queries: ConsoleQueries
    library: TemplateLibrary
    templates: TemplateCalls
    limits: Live[DefaultLimits]
    stats_reader: StatsReader
    facts: Callable[[], Facts]
    """What is known of how it goes."""
    outage: Callable[[], str]
    """How the database is away, in a word; empty: it is there."""
    wake: Callable[[], None]
    """Makes the runner look for work."""
    events: WebEvents
    clock: Clock
    pages: PageRenderer
    shared: SharedReads
    auth: ApiKeyAuth
    shares: KeyShares
    renderer: Renderer
    spreadsheets: SpreadsheetReader
    personal_drafts: PersonalDrafts
    copier: DraftCopier
    authorization: Callable[[str], Authorization]
    """What is known of a mailbox's authorization; the disk is asked."""
    post: Callable[[bytearray, ApiKey, str | None, JobType], Awaitable[web.Response]]
    """Stores the job of a body, as the API does: once for each idempotency key."""
    preview: Callable[[ClaimedRecipient, str], Awaitable[tuple[Content, Envelope]]]
    """Makes a message for a person who only looks."""
    is_authorized: Callable[[], bool]
    """Whether there is a mailbox that mailerd may send from."""

    def stats(self) -> QueueStats | None:
        """What the tables showed last; None while they cannot be read."""
        return self.facts().stats


@dataclass(frozen=True)
class ConsoleRequest:
    """A request of a person who is signed in."""

    http: web.Request
    services: Services
    key: ApiKey
    language: Language
    seen: QueueStats | None = None
    """How it goes, as far as the key may see it; None: that is not known."""

    @property
    def needing(self) -> int:
        """How much waits for a person: unconfirmed messages, and jobs of today with failures."""
        return self.seen.recipients.get(State.UNSURE, 0) + len(self.seen.failed_jobs) if self.seen else 0

    @property
    def is_refresh(self) -> bool:
        """Whether an open page fetches itself anew."""
        return self.http.method == "GET" and "HX-Request" in self.http.headers

    def number(self, name: str) -> int | None:
        """The number of a row in the query; None where there is none."""
        return row_number(self.http.query.get(name, ""))

    @property
    def zone(self) -> ZoneInfo:
        """The zone of the reader, as a script has found it; without one UTC, in which the page then is."""
        try:
            return ZoneInfo(unquote(self.http.cookies.get("mailerd-zone", "")) or "UTC")
        except (KeyError, ValueError, OSError):  # no such zone, or no name of one
            return ZoneInfo("UTC")

    def link(self, **query: str) -> str:
        """The address of this page with another value in its query."""
        return str(self.http.rel_url.update_query(query))

    @property
    def session(self) -> str:
        """The secret of its session."""
        return self.http.cookies.get(cookie_name(self.http), "")

    def word(self, job: Job) -> str:
        """The one word for how a job stands, the same in each list and command: what it waits for, or its status."""
        stats = self.services.stats()
        return waits_for(job, daemon=stats is None or heard_of(stats.daemons)) or job.status

    @property
    def actor(self) -> str:
        """Who asks, as actions and the log name it."""
        return f"key:{self.key.name} via console"

    def may(self, permission: Permission, sender: str | None = None) -> bool:
        """Whether the key may do this, with messages of this sender."""
        return self.key.may(permission) and (sender is None or self.key.may_send(sender))

    def senders(self, stats: QueueStats | None) -> list[SenderStats]:
        """Of the senders in the daemon's numbers, those that the key may see; none while there are no numbers."""
        return [each for each in stats.senders if self.key.may_send(each.email)] if stats else []

    def require(self, permission: Permission, sender: str | None = None) -> None:
        """End the request unless the key may do this.

        Raises:
            ApiError: 403, it may not.
        """
        if not self.may(permission, sender):
            raise not_allowed(t("Key {key} lacks the {right} permission.", key=self.key.name, right=permission.value))

    def require_admin(self) -> None:
        """End the request unless nothing limits the key.

        Raises:
            ApiError: 403, something does.
        """
        if not self.key.is_admin:
            raise not_allowed(t("Key {key} is limited. Sign in with a key without limits.", key=self.key.name))

    def missing(self) -> NoReturn:
        """End the request: there is nothing here that the key may see."""
        raise not_found(t("Page not found."))

    def page(self, name: str, *, status: int = 200, **values: object) -> web.Response:
        """A page. It tells once what the last action said; a refresh never does, since all who watch share it."""
        shared = self.shared()
        text = self.services.pages.render(name, self.language, shared | values)
        response = web.Response(text=text, status=status, content_type="text/html", charset="utf-8")
        if shared["flash"]:
            response.del_cookie(_FLASH)
        return response

    def shared(self) -> dict[str, Any]:
        """What every page has."""
        return {
            "it": self, "key": self.key, "path": self.http.path, "outbox": self.services.settings.web.outbox,
            "flash": "" if self.is_refresh else flash_of(self.http), "query": self.http.query,
            "now": self.services.clock.now(), "word": self.word, "theme": theme_of(self.http),
        }  # fmt: skip

    def back(self, to: str, text: str = "") -> web.Response:
        """Lead to a page after an action, which then tells what was done."""
        response = web.Response(status=303, headers={"Location": to})
        if text:
            flash = quote_flash(said(text, self.language))
            response.set_cookie(_FLASH, flash, max_age=60, httponly=True, samesite="Strict")
        return response


def theme_of(request: web.Request) -> str:
    """What its reader has chosen by `?theme=`, now or before: `light` or `dark`; else `auto`, as the browser has it."""
    wish = request.query.get("theme") or request.cookies.get(THEME_COOKIE, "")
    return wish if wish in {"light", "dark"} else "auto"


def row_number(text: str) -> int | None:
    """The number of a row, or None where the text is none: a BIGINT has 19 digits at most."""
    return int(text) if _ROW_NUMBER.fullmatch(text) else None


_ROW_NUMBER: Final = re.compile(r"[0-9]{1,19}")
THEME_COOKIE: Final = "mailerd-theme"
_FLASH: Final = "mailerd-said"
_MAX_FLASH: Final = 300


def quote_flash(text: str) -> str:
    """A text as a cookie can hold it."""
    return text[:_MAX_FLASH].encode("utf-8", "replace").hex()


def flash_of(request: web.Request) -> str:
    """What the last action has to say."""
    try:
        return bytes.fromhex(request.cookies.get(_FLASH, "")).decode("utf-8")
    except ValueError:
        return ""
