"""The way in and out: by a key, by a link that works once; who was led away from a page is led back
to it.
"""

import asyncio
import re
from functools import partial
from typing import Final
from urllib.parse import quote

from aiohttp import web

from mailerd.core.i18n import Language, t
from mailerd.http.errors import ApiError
from mailerd.http.requests import chosen_language
from mailerd.store.write.api_keys import Permission
from mailerd.web.frame import guards
from mailerd.web.frame.cookies import keep_said, theme_of
from mailerd.web.frame.error_pages import ErrorPages
from mailerd.web.frame.forms import read_login
from mailerd.web.frame.held_forms import HELD_FOR, HeldForms
from mailerd.web.frame.html import said
from mailerd.web.frame.services import Services

NO_READ: Final = t("This key can't open the console: it lacks the read permission.")
LOGINS_PER_ADDRESS: Final = 8
"""Sign-ins of one address whose forms are being read at once; one more, and the oldest gets a 429:
a form of a browser comes whole, in milliseconds.
"""
_MAX_NEXT: Final = 1_000
_OWN_PAGE: Final = re.compile(r"/(?![/\\])[!-\[\]-~]*")
"""The path and query of a page here: no other host, no backslash, no control character."""


class LoginPages:
    """Answers its requests."""

    def __init__(self, services: Services, errors: ErrorPages) -> None:
        self._services, self._errors = services, errors
        self.held: Final = HeldForms(services)
        self._auth, self._address = services.auth, services.auth.client_address.address
        self._logins: dict[str, list[asyncio.Timeout]] = {}
        """The sign-ins of each address that are being read, the oldest first."""
        self._pages: dict[tuple[Language, bool, bool, str], str] = {}
        """The pages that show no error, as strangers ask for them."""

    async def lead(self, request: web.Request) -> web.Response:
        """Lead a browser without a session to the form, and later back; what it had entered is
        kept, or called lost.
        """
        is_lost = (
            request.method == "POST"
            and not request.path.endswith("/html")
            and not await self.held.hold(request)
        )
        here = (
            ""
            if request.path in {"/", "/live"}
            else f"?next={quote(request.raw_path[:_MAX_NEXT], safe='')}"
        )
        if "HX-Request" in request.headers or request.path == "/live":
            response = web.Response(status=401, headers={"HX-Redirect": f"/login{here}"})
        else:
            response = web.Response(status=303, headers={"Location": f"/login{here}"})
        if is_lost:
            text = t("Your session had ended. What you entered was not saved: enter it again.")
            keep_said(response, said(text, chosen_language(request)), lasts=HELD_FOR)
        return response

    def _page(
        self, request: web.Request, *, status: int = 200, error: str = "", link: bool = False
    ) -> web.Response:
        language, plain, theme = (
            chosen_language(request),
            guards.is_plain(request),
            theme_of(request),
        )
        place, back = (language, link, plain, theme), _next(request)
        html = "" if error or back else self._pages.get(place, "")
        if not html:
            values = {"error": error, "link": link, "plain": plain, "theme": theme, "next": back}
            html = self._services.pages.render("login.html", language, values)
            if not error and not back:
                self._pages[place] = html
        return web.Response(text=html, status=status, content_type="text/html")

    async def show(self, request: web.Request) -> web.StreamResponse:
        """The form."""
        away = self._services.outage()  # a sign-in would need it
        return self._errors.away(request) if away else self._page(request)

    async def show_link(self, request: web.Request) -> web.StreamResponse:
        """A link is used by a button: what looks at links beforehand must not use it up."""
        return self._page(request, link=True)

    async def log_in(self, request: web.Request) -> web.StreamResponse:
        """By a key."""
        services = self._services
        try:
            secret = await self._read(request)
            key = await self._auth.check_secret(request, secret)
            self._auth.count_request(key)
            self._auth.note_use(key)
            if not key.may(Permission.READ):
                return self._page(request, status=403, error=NO_READ)
            address = self._address(request)
            session = await services.sessions.create(key, ip=address[:45])
        except ApiError as error:
            return self._refused(request, error)
        services.events.console_signed_in(key=key.name, address=address, way="key")
        return self._begin(request, session)

    async def _read(self, request: web.Request) -> str:
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
                429,
                "too_fast",
                t("Too many sign-ins from this address. Try again in a second."),
                retry_after=1,
            ) from None
        finally:
            if turn in reading:
                reading.remove(turn)
            if not reading and self._logins.get(address) is reading:
                del self._logins[address]

    def _refused(self, request: web.Request, error: ApiError) -> web.Response:
        response = self._page(request, status=error.status, error=str(error))
        response.headers.update(error.headers)
        response.force_close()  # the rest of its form may never come
        return response

    async def use_link(self, request: web.Request) -> web.StreamResponse:
        """By a link that works once."""
        address = self._address(request)
        use = partial(self._services.sessions.use_link, ip=address[:45])
        try:
            session = await self._auth.look_up(request, request.match_info["secret"], use)
        except ApiError as error:
            return self._refused(request, error)
        if session is None:
            text = t("This link was used or has expired. To get another: `mailerd console login`")
            return self._page(request, status=401, error=text)
        self._services.events.console_signed_in(key=t("one-time link"), address=address, way="link")
        return self._begin(request, session)

    async def log_out(self, request: web.Request) -> web.StreamResponse:
        """End the session."""
        if secret := guards.session_of(request):
            try:
                await self._auth.look_up(request, secret, self._services.sessions.end)
            except ApiError as error:
                return self._refused(request, error)
        response = web.Response(status=303, headers={"Location": "/login"})
        guards.clear_session(request, response)
        return response

    def _begin(self, request: web.Request, session: str) -> web.Response:
        """A session of its own for each login: one that a stranger has set before is worth
        nothing.
        """
        to = "/again" if self.held.hand_over(request, session) else _next(request) or "/"
        response = web.Response(status=303, headers={"Location": to})
        guards.set_session(request, response, session)
        return response


def _next(request: web.Request) -> str:
    """Where who signs in was led away from: a page of ours, whatever the address says."""
    wish = request.query.get("next", "")
    return wish if _OWN_PAGE.fullmatch(wish) and len(wish) <= _MAX_NEXT else ""
