"""The console: every route, and what stands around each page: hosts, forgery, sessions, errors and
headers.
"""

import gzip
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from dataclasses import replace
from typing import Final
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
from mailerd.store.write.api_keys import Permission
from mailerd.web.frame import guards
from mailerd.web.frame.cookies import keep_theme
from mailerd.web.frame.error_pages import SIGNED_IN, ErrorPages
from mailerd.web.frame.html import said, static_file, version_of
from mailerd.web.frame.live import PAGE_SHARED, LiveUpdates
from mailerd.web.frame.services import ConsoleRequest, Services
from mailerd.web.frame.sign_in import NO_READ, LoginPages
from mailerd.web.look import search_page, status_page
from mailerd.web.page_routes import DOWNLOADS, PAGES, Page

Route = tuple[str, str, Handler]
"""Method, path and handler of one route of the intake's listener."""
_NOT_SHARED: Final = ("/html", ".csv")
_NOT_FOUND: Final = 404
_STATIC_AGE: Final = "max-age=86400"
_TYPES: Final = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_STATIC: Final = {
    name: (
        static_file(name),
        gzip.compress(static_file(name), mtime=0),
        _TYPES[name.rpartition(".")[2]],
    )
    for name in (
        "console.css",
        "console.js",
        "icon.svg",
        "vendor/htmx.min.js",
        "vendor/idiomorph-ext.min.js",
    )
}


class Console:
    """Answers every request for a page."""

    def __init__(self, services: Services, live: LiveUpdates) -> None:
        self.services: Final = services
        self._auth, self._address = services.auth, services.auth.client_address.address
        self.live: Final = live
        self._errors = ErrorPages(services)
        self._sign_in = LoginPages(services, self._errors)
        self.error_page = self._errors.failed
        self._hosts = services.settings.web.names

    def routes(self) -> Iterator[Route]:
        """Every route of the console, each behind its guards."""
        for path, show, act in PAGES:
            for method, page in (("GET", show), ("POST", act)):
                if page:
                    yield method, path, self._secured(self._signed_in(page))
        yield "GET", "/again", self._secured(self._signed_in(self._sign_in.held.show))
        yield "GET", "/live", self._secured(self._signed_in(self.live.stream))
        yield "GET", "/login", self._secured(self._sign_in.show)
        yield "POST", "/login", self._secured(self._sign_in.log_in)
        yield "POST", "/logout", self._secured(self._sign_in.log_out)
        yield "GET", "/login/{secret}", self._secured(self._sign_in.show_link)
        yield "POST", "/login/{secret}", self._secured(self._sign_in.use_link)
        yield "GET", "/static/{name:.+}", self._secured(_static)
        # as the links of old alerts have it
        yield (
            "GET",
            "/letters/{id}",
            self._secured(_to_message),
        )
        yield "*", "/{page:.*}", self._elsewhere

    def _secured(self, handler: Handler) -> Handler:
        """Refuse foreign hosts and foreign pages, and give every answer its headers."""

        async def answer(request: web.Request) -> web.StreamResponse:
            speak(chosen_language(request))  # as the page has it, whatever the browser asks for
            if not is_own_host(request.headers.get("Host", ""), self._hosts):
                text = t("The console is not configured for this host name. Add it to web.hosts.")
                return self._refused(request, 421, t("unknown host"), text)
            if not guards.is_own_request(request):
                text = t("This request did not come from a console page. Nothing was changed.")
                return self._refused(request, 403, t("foreign origin"), text)
            try:
                response = await handler(request)
            except MailerdError as error:
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
        return web.Response(
            text=said(text, chosen_language(request)) + "\n", status=status, headers=guards.HEADERS
        )

    async def _elsewhere(self, request: web.Request) -> web.StreamResponse:
        """What no route serves: for a person a page that looks for what was meant, for programs the
        error as JSON.
        """
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
                key = await self._auth.look_up(
                    request, guards.session_of(request), self.services.sessions.key_of
                )
                if key is None:
                    return await self._sign_in.lead(request)
                if not key.may(Permission.READ):
                    return self._errors.page(request, 403, NO_READ)
                CALLER.set(f"{key.name} via console")
                request[SIGNED_IN] = it = ConsoleRequest(request, self.services, key, language)
                self._auth.count_request(key, refresh=it.is_refresh)
                self._auth.note_use(key)
                async with self._place(page, it):
                    with suppress(DatabaseError):  # then the page itself says so
                        request[SIGNED_IN] = it = replace(
                            it, seen=(await status_page.facts_for(it)).stats
                        )
                    response = await self._answer(page, it)
                if request.method == "POST":
                    self._sign_in.held.forget(it)
            except ApiError as error:
                if error.status != _NOT_FOUND or not wants_page(request):
                    raise
                return await search_page.lost(request[SIGNED_IN])
            if "lang" in request.query and not response.prepared:
                keep_language(response, language)
            if "theme" in request.query and not response.prepared:
                keep_theme(request, response)
            return response

        return answer

    def _place(self, page: Page, it: ConsoleRequest) -> AbstractAsyncContextManager[None]:
        """One of the key's places for what it reads; streams, downloads and forms have places of
        their own.
        """
        has_own = it.http.method == "POST" or page in (self.live.stream, *DOWNLOADS)
        return nullcontext() if has_own else self.services.shares.reads.place(it.key)

    async def _answer(self, page: Page, it: ConsoleRequest) -> web.StreamResponse:
        """The page; one that fetches itself anew is made once for all who watch it."""
        # a message has headers of its own that keep it in its frame
        whole = it.http.path.endswith(_NOT_SHARED)
        if not it.is_refresh or whole:
            return await page(it)

        async def made() -> bytes:
            response = await page(it)
            return (
                response.body
                if isinstance(response, web.Response) and isinstance(response.body, bytes)
                else b""
            )

        place = (it.http.rel_url, it.key.id, it.language, it.zone)
        body = await self.services.shared.get(place, PAGE_SHARED, made)
        return web.Response(body=body, content_type="text/html", charset="utf-8")


async def _to_message(request: web.Request) -> web.StreamResponse:
    return web.Response(
        status=301, headers={"Location": f"/messages/{quote(request.match_info['id'], safe='')}"}
    )


async def _static(request: web.Request) -> web.StreamResponse:
    name = request.match_info["name"]
    found = _STATIC.get(name)
    if found is None:
        return web.Response(status=404)
    body, packed, kind = found
    version = version_of(name)
    # else the page came from a daemon of another version
    is_this = request.query.get("v") == version
    headers = {
        "Cache-Control": _STATIC_AGE if is_this else "no-store",
        "ETag": f'"{version}"',
        "Vary": "Accept-Encoding",
    }
    # pages are not packed: they have secrets beside texts
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        body, headers["Content-Encoding"] = packed, "gzip"
    return web.Response(body=body, content_type=kind, charset="utf-8", headers=headers)
