"""The console: every route, and what stands around each page: hosts, forgery, sessions, errors and headers."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from typing import Final, Literal
from urllib.parse import quote

from aiohttp import web
from aiohttp.typedefs import Handler

from mailerd.core.i18n import Language, t
from mailerd.core.network_rules import is_own_host
from mailerd.core.situation import database
from mailerd.errors import DatabaseAwayError, DatabaseError, MailerdError
from mailerd.http.auth import CALLER
from mailerd.http.errors import ApiError
from mailerd.http.requests import chosen_language, keep_language
from mailerd.locale import speak
from mailerd.store.api_keys import ApiKey, Permission
from mailerd.web import (
    change_job,
    guards,
    inbox_page,
    job_page,
    jobs_page,
    keys_page,
    lists_page,
    message_page,
    person_page,
    post_page,
    senders_page,
    status_page,
    template_page,
    webhooks_page,
)
from mailerd.web.forms import read_login
from mailerd.web.html import said, static_file, version_of
from mailerd.web.live import PAGE_SHARED, LiveUpdates
from mailerd.web.services import ConsoleRequest, Services
from mailerd.web.troubles import Trouble

Page = Callable[[ConsoleRequest], Awaitable[web.StreamResponse]]
Route = tuple[str, str, Handler]
"""Method, path and handler of one route of the intake's listener."""
_NO_READ: Final = t("This key can't open the console: it lacks the read permission.")
_NOT_SHARED: Final = ("/html", ".csv")
_UNAVAILABLE: Final = 503
_AGAIN: Final = {"Retry-After": "5"}
LOGINS_PER_ADDRESS: Final = 8
"""Sign-ins of one address whose forms are being read at once; one more, and the oldest gets a 429: a form of a browser
comes whole, in milliseconds."""
_STATIC_AGE: Final = "max-age=86400"
_TYPES: Final = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_STATIC: Final = {
    name: (static_file(name), _TYPES[name.rpartition(".")[2]])
    for name in (
        "console.css", "console.js", "icon.svg", "vendor/htmx.min.js", "vendor/idiomorph-ext.min.js",
    )
}  # fmt: skip

PAGES: Final[tuple[tuple[Literal["GET", "POST"], str, Page], ...]] = (
    ("GET", "/", status_page.show),
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
    ("GET", "/people", person_page.show),
    ("GET", "/suppressions", lists_page.show),
    ("POST", "/suppressions", lists_page.act),
    ("GET", "/templates", template_page.index),
    ("GET", "/templates/{name}", template_page.show),
    ("POST", "/templates/{name}", template_page.send_test),
    ("GET", "/templates/{name}/html", template_page.html),
    ("GET", "/send", post_page.show),
    ("POST", "/send", post_page.post),
    ("GET", "/webhooks", webhooks_page.show),
    ("POST", "/webhooks", webhooks_page.add),
    ("GET", "/webhooks/{id}", webhooks_page.one),
    ("POST", "/webhooks/{id}", webhooks_page.act),
    ("GET", "/keys", keys_page.show),
    ("POST", "/keys", keys_page.act),
)


class Console:
    """Answers every request for a page."""

    def __init__(self, services: Services, live: LiveUpdates) -> None:
        self.services: Final = services
        self._auth, self._address = services.auth, services.auth.client_address.address
        self.live: Final = live
        self._logins: dict[str, list[asyncio.Timeout]] = {}
        """The sign-ins of each address that are being read, the oldest first."""
        self._login_pages: dict[tuple[Language, bool, bool], str] = {}
        """The pages of the sign-in that show no error, as strangers ask for them."""
        self._hosts = services.settings.web.names

    def routes(self) -> Iterator[Route]:
        """Every route of the console, each behind its guards."""
        for method, path, page in PAGES:
            yield method, path, self._secured(self._signed_in(page))
        yield "GET", "/live", self._secured(self._signed_in(self.live.stream))
        yield "GET", "/login", self._secured(self._show_login)
        yield "POST", "/login", self._secured(self._login)
        yield "POST", "/logout", self._secured(self._logout)
        yield "GET", "/login/{secret}", self._secured(self._show_link)
        yield "POST", "/login/{secret}", self._secured(self._use_link)
        yield "GET", "/static/{name:.+}", self._secured(_static)
        yield "GET", "/letters/{id}", self._secured(_to_message)  # as the links of old alerts have it

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
                response = self._failed(request, chosen_language(request), error)
            if not response.prepared:
                for name, value in guards.HEADERS.items():
                    response.headers.setdefault(name, value)
            return response

        return answer

    def _refused(self, request: web.Request, status: int, reason: str, text: str) -> web.Response:
        if self._auth.is_logged(request):
            self.services.events.console_refused(reason=reason, address=self._address(request))
        return web.Response(text=said(text, chosen_language(request)) + "\n", status=status, headers=guards.HEADERS)

    def _signed_in(self, page: Page) -> Handler:
        """Let in who has a session; everybody else is led to the login."""

        async def answer(request: web.Request) -> web.StreamResponse:
            language = chosen_language(request)
            try:
                key = await self._key(request)
                if key is None:
                    return self._to_login(request)
                if not key.may(Permission.READ):
                    return self._error(request, language, 403, _NO_READ)
                CALLER.set(f"{key.name} via console")
                it = ConsoleRequest(request, self.services, key, language)
                self._auth.count_request(key, refresh=it.is_refresh)
                self._auth.note_use(key)
                async with self._place(page, it):
                    response = await self._answer(page, it)
            except MailerdError as error:
                return self._failed(request, language, error)
            if "lang" in request.query and not response.prepared:
                keep_language(response, language)
            return response

        return answer

    def _place(self, page: Page, it: ConsoleRequest) -> AbstractAsyncContextManager[None]:
        """One of the key's places for what it reads; streams, downloads and forms have places of their own."""
        has_own = it.http.method == "POST" or page in (self.live.stream, job_page.results)
        return nullcontext() if has_own else self.services.shares.reads.place(it.key)

    async def _answer(self, page: Page, it: ConsoleRequest) -> web.StreamResponse:
        """The page; one that fetches itself anew is made once for all who watch it."""
        whole = it.http.path.endswith(_NOT_SHARED)  # a message has headers of its own that keep it in its frame
        if not it.is_refresh or whole:
            return await page(it)

        async def made() -> bytes:
            response = await page(it)
            return response.body if isinstance(response, web.Response) and isinstance(response.body, bytes) else b""

        place = (it.http.rel_url, it.key.id, it.language)
        body = await self.services.shared.get(place, PAGE_SHARED, made)
        return web.Response(body=body, content_type="text/html", charset="utf-8")

    async def _key(self, request: web.Request) -> ApiKey | None:
        secret = request.cookies.get(guards.cookie_name(request), "")
        if not secret:
            return None
        return await self._auth.look_up(request, secret, self.services.sessions.key_of)

    def _to_login(self, request: web.Request) -> web.Response:
        if "HX-Request" in request.headers or request.path == "/live":
            return web.Response(status=401, headers={"HX-Redirect": "/login"})
        return web.Response(status=303, headers={"Location": "/login"})

    def _failed(self, request: web.Request, language: Language, error: MailerdError) -> web.Response:
        """Why there is no page. While the database is unavailable, no session can be looked up: it has no secrets."""
        status = _status(error)
        if status == _UNAVAILABLE and isinstance(error, DatabaseError):
            return self._away(request, language)
        response = self._error(request, language, status, str(error))
        if isinstance(error, ApiError):
            response.headers.update(error.headers)
        return response

    def _away(self, request: web.Request, language: Language) -> web.Response:
        trouble = Trouble(database(self.services.outage()))
        return self._error(request, language, _UNAVAILABLE, trouble.it.text, [trouble])

    def _error(
        self, request: web.Request, language: Language, status: int, text: str, troubles: Sequence[Trouble] = ()
    ) -> web.Response:
        html = self.services.pages.render("error.html", language,
            {"status": status, "text": text, "path": request.path, "troubles": troubles},
        )  # fmt: skip
        headers = _AGAIN if status == _UNAVAILABLE else {}
        return web.Response(text=html, status=status, content_type="text/html", headers=headers)

    def _login_page(
        self, request: web.Request, *, status: int = 200, error: str = "", link: bool = False
    ) -> web.Response:
        language, plain = chosen_language(request), guards.is_plain(request)
        html = "" if error else self._login_pages.get((language, link, plain), "")
        if not html:
            values = {"error": error, "link": link, "plain": plain}
            html = self.services.pages.render("login.html", language, values)
            if not error:
                self._login_pages[language, link, plain] = html
        return web.Response(text=html, status=status, content_type="text/html")

    async def _show_login(self, request: web.Request) -> web.StreamResponse:
        away = self.services.outage()  # a sign-in would need it
        return self._away(request, chosen_language(request)) if away else self._login_page(request)

    async def _show_link(self, request: web.Request) -> web.StreamResponse:
        """A link is used by a button: what looks at links beforehand must not use it up."""
        return self._login_page(request, link=True)

    async def _login(self, request: web.Request) -> web.StreamResponse:
        services = self.services
        try:
            secret = await self._read_login(request)
            key = await self._auth.check_secret(request, secret)
            self._auth.count_request(key)
            self._auth.note_use(key)
            if not key.may(Permission.READ):
                return self._login_page(request, status=403, error=_NO_READ)
            address = self._address(request)
            session = await services.sessions.create(key, ip=address[:45])
        except ApiError as error:
            return self._login_refused(request, error)
        services.events.console_signed_in(key=key.name, address=address, way="key")
        return _begin(request, session)

    async def _read_login(self, request: web.Request) -> str:
        """The key that was entered.

        Raises:
            ApiError: it cannot be read, or newer forms of this address have taken its place.
        """
        address = self._address(request)
        reading = self._logins.setdefault(address, [])
        if len(reading) >= LOGINS_PER_ADDRESS:
            reading.pop(0).reschedule(0)  # it ends at once
        turn = asyncio.timeout(None)
        reading.append(turn)
        try:
            async with turn:
                return (await read_login(request)).text("key")
        except TimeoutError:
            raise ApiError(
                429, "too_fast", t("Too many sign-ins from this address. Try again in a second."), retry_after=1
            ) from None
        finally:
            if turn in reading:
                reading.remove(turn)
            if not reading and self._logins.get(address) is reading:
                del self._logins[address]

    def _login_refused(self, request: web.Request, error: ApiError) -> web.Response:
        response = self._login_page(request, status=error.status, error=str(error))
        response.headers.update(error.headers)
        response.force_close()  # the rest of its form may never come
        return response

    async def _use_link(self, request: web.Request) -> web.StreamResponse:
        address = self._address(request)
        use = partial(self.services.sessions.use_link, ip=address[:45])
        try:
            session = await self._auth.look_up(request, request.match_info["secret"], use)
        except ApiError as error:
            return self._login_refused(request, error)
        if session is None:
            text = t("This link was used or has expired. To get another: `mailerd console login`")
            return self._login_page(request, status=401, error=text)
        self.services.events.console_signed_in(key=t("one-time link"), address=address, way="link")
        return _begin(request, session)

    async def _logout(self, request: web.Request) -> web.StreamResponse:
        if secret := request.cookies.get(guards.cookie_name(request)):
            try:
                await self._auth.look_up(request, secret, self.services.sessions.end)
            except ApiError as error:
                return self._login_refused(request, error)
        response = web.Response(status=303, headers={"Location": "/login"})
        guards.clear_session(request, response)
        return response


def _status(error: MailerdError) -> int:
    """The HTTP status that says it."""
    match error:
        case ApiError():
            return error.status
        case DatabaseError():
            return _UNAVAILABLE if isinstance(error, DatabaseAwayError) or error.retry else 500
        case _:
            return 409


def _begin(request: web.Request, session: str) -> web.Response:
    """A session of its own for each login: one that a stranger has set before is worth nothing."""
    response = web.Response(status=303, headers={"Location": "/"})
    guards.set_session(request, response, session)
    return response


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
