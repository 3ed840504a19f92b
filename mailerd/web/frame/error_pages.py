"""The pages of errors, for a person with a browser: what happened, what to do, and the navigation
as ever.
"""

from collections.abc import Sequence
from typing import Any, Final

from aiohttp import web

from mailerd.core.i18n import t
from mailerd.core.reading import database
from mailerd.errors import DatabaseAwayError, DatabaseError, MailerdError
from mailerd.http.errors import ApiError
from mailerd.http.requests import chosen_language
from mailerd.http.responses import REQUEST
from mailerd.web.frame import guards
from mailerd.web.frame.cookies import theme_of
from mailerd.web.frame.services import ConsoleRequest, Services
from mailerd.web.frame.troubles import Trouble

_UNAVAILABLE: Final = 503
_AGAIN: Final = {"Retry-After": "5"}
SIGNED_IN: Final = web.RequestKey("signed_in", ConsoleRequest)
"""Who asks, for the page of an error."""
_STRANGER: Final[dict[str, Any]] = {"key": None, "it": None, "outbox": "", "flash": ""}
_ERROR: Final = t("This page cannot be shown")
_HEADINGS: Final = {
    403: t("Not allowed"),
    404: t("Page not found"),
    405: t("Not possible here"),
    413: t("Too large"),
    421: t("Unknown host"),
    429: t("Too many requests"),
    500: t("Internal error"),
    503: t("Temporarily unavailable"),
}


class ErrorPages:
    """Makes them."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def failed(self, request: web.Request, error: MailerdError) -> web.Response:
        """Why there is no page.

        While the database is unavailable, no session can be looked up: it has no secrets.
        """
        status = _status(error)
        if status == _UNAVAILABLE and isinstance(error, DatabaseError):
            return self.away(request)
        response = self.page(request, status, str(error))
        if isinstance(error, ApiError):
            response.headers.update(error.headers)
        return response

    def away(self, request: web.Request) -> web.Response:
        """The database cannot be used: the one thing that every page then says."""
        it = request.get(SIGNED_IN)
        trouble = Trouble(database(self._services.outage()), is_admin=it is None or it.key.is_admin)
        return self.page(request, _UNAVAILABLE, trouble.it.text, [trouble])

    def page(
        self, request: web.Request, status: int, text: str, troubles: Sequence[Trouble] = ()
    ) -> web.Response:
        """The page that says it, in the layout of who is signed in."""
        it = request.get(SIGNED_IN)
        values = (
            it.shared() if it else _STRANGER | {"path": request.path, "theme": theme_of(request)}
        ) | {
            "active": "",
            "live": False,
            "status": status,
            "text": text,
            "troubles": troubles,
            "heading": _HEADINGS.get(status, _ERROR),
            "request_id": REQUEST.get(""),
        }
        html = self._services.pages.render("error.html", chosen_language(request), values)
        headers = guards.HEADERS | (_AGAIN if status == _UNAVAILABLE else {})
        return web.Response(text=html, status=status, content_type="text/html", headers=headers)


def _status(error: MailerdError) -> int:
    """The HTTP status that says it."""
    match error:
        case ApiError():
            return error.status
        case DatabaseError():
            return _UNAVAILABLE if isinstance(error, DatabaseAwayError) or error.retry else 500
        case _:
            return 409
