"""The console: every route, and what stands around each page: hosts, forgery, sessions, errors and headers."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from dataclasses import replace
from typing import Final, Literal
from urllib.parse import quote

from aiohttp import web
from aiohttp.typedefs import Handler

from mailerd.core.i18n import t
from mailerd.core.network_rules import is_own_host
from mailerd.errors import DatabaseError, MailerdError
from mailerd.http.auth import CALLER
from mailerd.http.errors import ApiError
from mailerd.http.requests import chosen_language, keep_language, wants_page
from mailerd.http.responses import no_such_path
from mailerd.locale import speak
from mailerd.store.api_keys import ApiKey, Permission
from mailerd.web import (
    activity_page,
    change_job,
    chart_page,
    guards,
    inbox_page,
    job_page,
    jobs_page,
    keys_page,
    lists_page,
    message_page,
    overview_page,
    person_page,
    search_page,
    send_message_page,
    send_page,
    send_preview,
    send_review_page,
    send_table,
    senders_page,
    settings_page,
    status_page,
    template_actions,
    template_diff,
    template_editor,
    template_page,
    webhooks_page,
)
from mailerd.web.draft import of_draft
from mailerd.web.error_pages import SIGNED_IN, ErrorPages
from mailerd.web.html import said, static_file, version_of
from mailerd.web.live import PAGE_SHARED, LiveUpdates
from mailerd.web.services import THEME_COOKIE, ConsoleRequest, Services, theme_of
from mailerd.web.sign_in import NO_READ, LoginPages

Page = Callable[[ConsoleRequest], Awaitable[web.StreamResponse]]
Route = tuple[str, str, Handler]
"""Method, path and handler of one route of the intake's listener."""
_NOT_SHARED: Final = ("/html", ".csv")
_YEAR: Final = 365 * 86_400
_NOT_FOUND: Final = 404
_STATIC_AGE: Final = "max-age=86400"
_TYPES: Final = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_STATIC: Final = {
    name: (static_file(name), _TYPES[name.rpartition(".")[2]])
    for name in (
        "console.css", "console.js", "icon.svg", "vendor/htmx.min.js", "vendor/idiomorph-ext.min.js",
    )
}  # fmt: skip

PAGES: Final[tuple[tuple[Literal["GET", "POST"], str, Page], ...]] = (
    ("GET", "/", overview_page.show),
    ("GET", "/status", status_page.show),
    ("GET", "/search", search_page.show),
    ("GET", "/settings", settings_page.show),
    ("GET", "/activity", activity_page.show),
    ("GET", "/activity.csv", activity_page.table),
    ("GET", "/chart.csv", chart_page.results),
    ("GET", "/jobs", jobs_page.show),
    ("POST", "/jobs", jobs_page.act),
    ("GET", "/jobs/{id}", job_page.show),
    ("POST", "/jobs/{id}", change_job.act),
    ("GET", "/jobs/{id}/results.csv", job_page.results),
    ("GET", "/messages/{id}", message_page.show),
    ("POST", "/messages/{id}", message_page.act),
    ("GET", "/messages/{id}/html", message_page.html),
    ("GET", "/doubts", jobs_page.doubts),
    ("GET", "/senders", senders_page.show),
    ("GET", "/senders/{email}", senders_page.one),
    ("POST", "/senders/{email}", senders_page.act),
    ("GET", "/inbox", inbox_page.show),
    ("GET", "/inbox.csv", inbox_page.results),
    ("GET", "/people", person_page.show),
    ("GET", "/suppressions", lists_page.show),
    ("POST", "/suppressions", lists_page.act),
    ("GET", "/suppressions.csv", lists_page.results),
    ("GET", "/lists", lists_page.lists),
    ("POST", "/lists", lists_page.make_list),
    ("GET", "/templates", template_page.index),
    ("GET", "/templates/{name}", template_page.show),
    ("POST", "/templates/{name}", template_actions.act),
    ("GET", "/templates/{name}/html", template_page.html),
    ("GET", "/templates/{name}/diff", template_diff.diff),
    ("GET", "/templates/{name}/edit", template_editor.show),
    ("POST", "/templates/{name}/edit", template_editor.save),
    ("GET", "/templates/{name}/duplicate", template_editor.show),
    ("GET", "/new-template", template_editor.show),
    ("POST", "/new-template", template_editor.save),
    ("POST", "/new-template/html", template_editor.preview),
    ("GET", "/send", send_page.start),
    ("POST", "/send", send_page.create),
    ("GET", "/send/{draft}/people", of_draft(send_page.show)),
    ("POST", "/send/{draft}/people", of_draft(send_page.change)),
    ("GET", "/send/{draft}/problems.csv", of_draft(send_table.problems)),
    ("GET", "/send/{draft}/corrected.csv", of_draft(send_table.corrected)),
    ("GET", "/send/{draft}/message", of_draft(send_message_page.show)),
    ("POST", "/send/{draft}/message", of_draft(send_message_page.change)),
    ("GET", "/send/{draft}/html", of_draft(send_preview.html)),
    ("GET", "/send/{draft}/review", of_draft(send_review_page.show)),
    ("POST", "/send/{draft}/review", of_draft(send_review_page.change)),
    ("GET", "/webhooks", webhooks_page.show),
    ("POST", "/webhooks", webhooks_page.add),
    ("GET", "/webhooks/{id}", webhooks_page.one),
    ("POST", "/webhooks/{id}", webhooks_page.act),
    ("GET", "/keys", keys_page.show),
    ("POST", "/keys", keys_page.act),
)

_DOWNLOADS: Final = (inbox_page.results, job_page.results, lists_page.results)


class Console:
    """Answers every request for a page."""

    def __init__(self, services: Services, live: LiveUpdates) -> None:
        self.services: Final = services
        self._auth, self._address = services.auth, services.auth.client_address.address
        self.live: Final = live
        self._errors = ErrorPages(services)
        self._sign_in = LoginPages(services, self._errors)
        self.error_page = self._errors.unforeseen
        self._hosts = services.settings.web.names

    def routes(self) -> Iterator[Route]:
        """Every route of the console, each behind its guards."""
        for method, path, page in PAGES:
            yield method, path, self._secured(self._signed_in(page))
        yield "GET", "/live", self._secured(self._signed_in(self.live.stream))
        yield "GET", "/login", self._secured(self._sign_in.show)
        yield "POST", "/login", self._secured(self._sign_in.log_in)
        yield "POST", "/logout", self._secured(self._sign_in.log_out)
        yield "GET", "/login/{secret}", self._secured(self._sign_in.show_link)
        yield "POST", "/login/{secret}", self._secured(self._sign_in.use_link)
        yield "GET", "/static/{name:.+}", self._secured(_static)
        yield "GET", "/letters/{id}", self._secured(_to_message)  # as the links of old alerts have it
        yield "*", "/{page:.*}", self._elsewhere

    def _secured(self, handler: Handler) -> Handler:
        """Refuse foreign hosts and foreign pages, and give every answer its headers."""

        async def answer(request: web.Request) -> web.StreamResponse:
            speak(chosen_language(request))  # as the page has it, whatever the browser asks for
            if not is_own_host(request.headers.get("Host", ""), self._hosts):
                return self._refused(
                    request,
                    421,
                    t("unknown host"),
                    t("The console is not configured for this host name. Add it to web.hosts."),
                )
            if not guards.is_own_request(request):
                return self._refused(
                    request,
                    403,
                    t("foreign origin"),
                    t("This request did not come from a console page. Nothing was changed."),
                )
            try:
                response = await handler(request)
            except DatabaseError as error:
                response = self._errors.failed(request, error)
            if not response.prepared:
                for name, value in guards.HEADERS.items():
                    response.headers.setdefault(name, value)
            return response

        return answer

    def _refused(self, request: web.Request, status: int, reason: str, text: str) -> web.Response:
        if self._auth.is_logged(request):
            self.services.events.console_refused(reason=reason, address=self._address(request))
        if wants_page(request):
            return self._errors.page(request, status, text)
        return web.Response(text=said(text, chosen_language(request)) + "\n", status=status, headers=guards.HEADERS)

    async def _elsewhere(self, request: web.Request) -> web.StreamResponse:
        """What no route serves: for a person a page that looks for what was meant, for programs the error as JSON."""
        if not wants_page(request) or request.method != "GET":
            return await no_such_path(request)
        try:
            return await no_such_path(request)
        except web.HTTPNotFound:
            return await self._secured(self._signed_in(search_page.lost))(request)

    def _signed_in(self, page: Page) -> Handler:
        """Let in who has a session; everybody else is led to the login."""

        async def answer(request: web.Request) -> web.StreamResponse:
            language = chosen_language(request)
            try:
                key = await self._key(request)
                if key is None:
                    return self._sign_in.lead(request)
                if not key.may(Permission.READ):
                    return self._errors.page(request, 403, NO_READ)
                CALLER.set(f"{key.name} via console")
                request[SIGNED_IN] = it = ConsoleRequest(request, self.services, key, language)
                self._auth.count_request(key, refresh=it.is_refresh)
                self._auth.note_use(key)
                async with self._place(page, it):
                    with suppress(DatabaseError):  # then the page itself says so
                        request[SIGNED_IN] = it = replace(it, seen=(await status_page.facts_for(it)).stats)
                    response = await self._answer(page, it)
            except ApiError as error:
                if error.status == _NOT_FOUND and wants_page(request):
                    return await self._lost(request)
                return self._errors.failed(request, error)
            except MailerdError as error:
                return self._errors.failed(request, error)
            if "lang" in request.query and not response.prepared:
                keep_language(response, language)
            if "theme" in request.query and not response.prepared:
                response.set_cookie(THEME_COOKIE, theme_of(request), max_age=_YEAR, httponly=True, samesite="Lax")
            return response

        return answer

    async def _lost(self, request: web.Request) -> web.StreamResponse:
        try:
            return await search_page.lost(request[SIGNED_IN])
        except MailerdError as error:
            return self._errors.failed(request, error)

    def _place(self, page: Page, it: ConsoleRequest) -> AbstractAsyncContextManager[None]:
        """One of the key's places for what it reads; streams, downloads and forms have places of their own."""
        has_own = it.http.method == "POST" or page in (self.live.stream, *_DOWNLOADS)
        return nullcontext() if has_own else self.services.shares.reads.place(it.key)

    async def _answer(self, page: Page, it: ConsoleRequest) -> web.StreamResponse:
        """The page; one that fetches itself anew is made once for all who watch it."""
        whole = it.http.path.endswith(_NOT_SHARED)  # a message has headers of its own that keep it in its frame
        if not it.is_refresh or whole:
            return await page(it)

        async def made() -> bytes:
            response = await page(it)
            return response.body if isinstance(response, web.Response) and isinstance(response.body, bytes) else b""

        place = (it.http.rel_url, it.key.id, it.language, it.zone)
        body = await self.services.shared.get(place, PAGE_SHARED, made)
        return web.Response(body=body, content_type="text/html", charset="utf-8")

    async def _key(self, request: web.Request) -> ApiKey | None:
        secret = request.cookies.get(guards.cookie_name(request), "")
        if not secret:
            return None
        return await self._auth.look_up(request, secret, self.services.sessions.key_of)


async def _to_message(request: web.Request) -> web.StreamResponse:
    return web.Response(status=301, headers={"Location": f"/messages/{quote(request.match_info['id'], safe='')}"})


async def _static(request: web.Request) -> web.StreamResponse:
    name = request.match_info["name"]
    found = _STATIC.get(name)
    if found is None:
        return web.Response(status=404)
    body, kind = found
    version = version_of(name)
    is_this = request.query.get("v") == version  # else the page came from a daemon of another version
    headers = {"Cache-Control": _STATIC_AGE if is_this else "no-store", "ETag": f'"{version}"'}
    return web.Response(body=body, content_type=kind, charset="utf-8", headers=headers)
