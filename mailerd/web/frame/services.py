"""What the pages of the console use: queries, actions, and what they share with the API."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn, Protocol
from zoneinfo import ZoneInfo

from aiohttp import web

from mailerd.clock import Clock
from mailerd.config import Live, Settings
from mailerd.core.claims import ClaimedRecipient
from mailerd.core.i18n import Language, t
from mailerd.core.reading import Authorization
from mailerd.core.situation import Facts
from mailerd.core.states import JobType, State
from mailerd.core.stats import QueueStats, SenderStats
from mailerd.events.actions import Via
from mailerd.events.intake import WebEvents
from mailerd.http.auth import ApiKeyAuth, KeyShares
from mailerd.http.errors import not_allowed
from mailerd.http.responses import LONGEST_TURN, not_found
from mailerd.mail.copied_draft import DraftCopier
from mailerd.mail.mime import Envelope
from mailerd.mail.renderer import Renderer
from mailerd.mail.spreadsheet import SpreadsheetReader
from mailerd.mail.table_checker import TableChecker
from mailerd.mail.template_library import NamedTemplate, TemplateLibrary
from mailerd.mail.templates import Content
from mailerd.operations.caller import Backend, Caller
from mailerd.rate_limited_gmail import PersonalDrafts
from mailerd.store.db.database import Database
from mailerd.store.queue.rate_limits import DefaultLimits
from mailerd.store.read.console_queries import ConsoleQueries
from mailerd.store.read.describe import heard_of, waits_for
from mailerd.store.read.forecast_inputs import ForecastReader
from mailerd.store.read.history import HistoryReader
from mailerd.store.read.jobs import Job, Jobs
from mailerd.store.read.stats import StatsReader, Tallies
from mailerd.store.write.api_keys import ApiKey, ApiKeys, Permission, Sessions
from mailerd.store.write.templates import TemplateStore
from mailerd.store.write.trouble_history import TroubleHistory
from mailerd.web.frame.checks import ChecksOnDemand
from mailerd.web.frame.cookies import keep_said, said_before, theme_of, zone_of
from mailerd.web.frame.forms import row_number
from mailerd.web.frame.html import PageRenderer, said
from mailerd.web.frame.shared_reads import SharedReads

MAX_LISTED: Final = 50
"""Lines of one page of a list."""
TIMEOUT: Final = 2.0
"""Seconds that the database gets for one question of a page."""


class TemplateCalls(Protocol):
    """What the API does with its templates: checks one, stores a version, publishes it, archives;
    or an ApiError.
    """

    @property
    def store(self) -> TemplateStore: ...
    def seen_by(self, key: ApiKey) -> "TemplateCalls": ...
    async def checked(
        self, name: str, raw: bytearray, key: ApiKey
    ) -> tuple[NamedTemplate, dict[str, bytes], str | None]: ...
    async def save(
        self, by: Caller, name: str, raw: bytearray, key: ApiKey
    ) -> tuple[str, bool]: ...
    async def publish_version(
        self, by: Caller, name: str, version: str, *, expect: str | None
    ) -> bool: ...
    async def archive_template(self, by: Caller, name: str) -> None: ...


@dataclass
class Services:
    """Everything that a page may ask."""

    settings: Settings
    database: Database
    backend: Backend
    """What operations work with."""
    jobs: Jobs
    forecasts: ForecastReader
    history: HistoryReader
    keys: ApiKeys
    sessions: Sessions
    tallies: Tallies
    queries: ConsoleQueries
    library: TemplateLibrary
    templates: TemplateCalls
    """Every template; pages use those of a request, which are its key's."""
    limits: Live[DefaultLimits]
    stats_reader: StatsReader
    facts: Callable[[], Facts]
    """What is known of how it goes."""
    troubles: TroubleHistory
    outage: Callable[[], str]
    """How the database is away, in a word; empty: it is there."""
    events: WebEvents
    clock: Clock
    pages: PageRenderer
    shared: SharedReads
    auth: ApiKeyAuth
    shares: KeyShares
    renderer: Renderer
    spreadsheets: SpreadsheetReader
    tables: TableChecker
    personal_drafts: PersonalDrafts
    copier: DraftCopier
    authorization: Callable[[str], Authorization]
    """What is known of a mailbox's authorization; the disk is asked."""
    post: Callable[[bytearray, ApiKey, str | None, JobType], Awaitable[web.Response]]
    """Stores the job of a body, as the API does: once for each idempotency key."""
    preview: Callable[[ClaimedRecipient, str], Awaitable[tuple[Content, Envelope]]]
    """Makes a message for a person who only looks."""
    credential_owners: Callable[[], list[str]]
    """The mailboxes, and the @domains, that mailerd may send from; the disk is asked."""
    checks: ChecksOnDemand

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
        return (
            self.seen.recipients.get(State.UNSURE, 0) + len(self.seen.failed_jobs)
            if self.seen
            else 0
        )

    @property
    def is_refresh(self) -> bool:
        """Whether an open page fetches itself anew."""
        return self.http.method == "GET" and "HX-Request" in self.http.headers

    @property
    def library(self) -> TemplateLibrary:
        """The templates that the key may use."""
        return self.services.library.seen_by(self.key.senders)

    @property
    def templates(self) -> TemplateCalls:
        """What the API does with them, for this key."""
        return self.services.templates.seen_by(self.key)

    def number(self, name: str) -> int | None:
        """The number of a row in the query; None where there is none."""
        return row_number(self.http.query.get(name, ""))

    def link(self, **query: str) -> str:
        """The address of this page with another value in its query."""
        return str(self.http.rel_url.update_query(query))

    def word(self, job: Job) -> str:
        """The one word for how a job stands, the same in each list and command: what it waits for,
        or its status.
        """
        stats = self.services.stats()
        known, daemon = (
            (stats.sender(job.sender.email), heard_of(stats.daemons)) if stats else (None, True)
        )
        return waits_for(job, daemon=daemon, known=known) or job.status

    @property
    def zone(self) -> ZoneInfo:
        """The zone of the reader."""
        return zone_of(self.http)

    @property
    def actor(self) -> str:
        """Who asks, as actions and the log name it."""
        return f"key:{self.key.name} via console"

    @property
    def caller(self) -> Caller:
        """Who asks for an operation."""
        return Caller(self.services.backend, Via.CONSOLE, self.actor, self.key)

    def may(self, permission: Permission, sender: str | None = None) -> bool:
        """Whether the key may do this, with messages of this sender."""
        return self.key.may(permission) and (sender is None or self.key.may_send(sender))

    def senders(self, stats: QueueStats | None) -> list[SenderStats]:
        """Of the senders in the daemon's numbers, those that the key may see; none while there are
        no numbers.
        """
        return [each for each in stats.senders if self.key.may_send(each.email)] if stats else []

    def require(self, permission: Permission, sender: str | None = None) -> None:
        """End the request unless the key may do this.

        Raises:
            ApiError: 403, it may not.
        """
        if not self.may(permission, sender):
            raise not_allowed(
                t(
                    "Key {key} lacks the {right} permission.",
                    key=self.key.name,
                    right=permission.value,
                )
            )

    def require_admin(self) -> None:
        """End the request unless nothing limits the key.

        Raises:
            ApiError: 403, something does.
        """
        if not self.key.is_admin:
            raise not_allowed(
                t("Key {key} is limited. Sign in with a key without limits.", key=self.key.name)
            )

    def missing(self) -> NoReturn:
        """End the request: there is nothing here that the key may see."""
        raise not_found(t("Page not found."))

    def page(self, name: str, *, status: int = 200, **values: object) -> web.Response:
        """A page.

        It tells once what the last action said; a refresh never does, since all who watch share it.
        """
        shared = self.shared()
        return self._response(
            self.services.pages.render(name, self.language, shared | values), status, shared
        )

    async def long_page(self, name: str, *, status: int = 200, **values: object) -> web.Response:
        """The same of a page whose length a client has chosen: it is made in turns, and others have
        theirs.
        """
        shared, pieces, began = self.shared(), list[str](), time.monotonic()
        for piece in self.services.pages.pieces(name, self.language, shared | values):
            pieces.append(piece)
            if time.monotonic() - began > LONGEST_TURN:
                await asyncio.sleep(0)
                began = time.monotonic()
        return self._response("".join(pieces), status, shared)

    def _response(self, text: str, status: int, shared: Mapping[str, Any]) -> web.Response:
        response = web.Response(text=text, status=status, content_type="text/html", charset="utf-8")
        if shared["flash"]:
            keep_said(response, "")
        return response

    def shared(self) -> dict[str, Any]:
        """What every page has."""
        return {
            "it": self,
            "key": self.key,
            "path": self.http.path,
            "outbox": self.services.settings.web.outbox,
            "flash": "" if self.is_refresh else said_before(self.http),
            "now": self.services.clock.now(),
            "word": self.word,
            "theme": theme_of(self.http),
        }

    def back(self, to: str, text: str = "") -> web.Response:
        """Lead to a page after an action, which then tells what was done."""
        response = web.Response(status=303, headers={"Location": to})
        if text:
            keep_said(response, said(text, self.language))
        return response

    def log_change(self, what: str, change: str) -> None:
        """Let the log tell what this person has changed, and how."""
        self.services.events.console_changed(actor=self.actor, what=what, change=change)


def split_page[T](found: list[T]) -> tuple[list[T], T | None]:
    """The rows of a page, of which one more was read; and the last of them, where more follow."""
    return found[:MAX_LISTED], found[MAX_LISTED - 1] if len(found) > MAX_LISTED else None
