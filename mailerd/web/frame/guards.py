"""What keeps strangers out of the console: names of hosts, the origin of a request, headers, and
the cookie.
"""

from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from mailerd.core import network_rules

COOKIE: Final = "mailerd"
"""The cookie of the session's secret over http, which is for this machine alone."""
SECURE_COOKIE: Final = "__Host-mailerd"
"""The cookie of the session's secret over https: no other host and no page without TLS can set
it.
"""
HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; frame-src 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
MESSAGE_HEADERS: Final = HEADERS | {
    "Content-Security-Policy": (
        "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'self'"
    ),
    "X-Frame-Options": "SAMEORIGIN",
}
"""The headers of a message that is shown in a frame: it runs no script, loads nothing and has no
origin.
"""
_SAFE: Final = frozenset({"GET", "HEAD"})


def host_of(request: web.Request) -> str:
    """The name by which the browser called, without its port."""
    return network_rules.host_of(request.headers.get("Host", ""))


def is_plain(request: web.Request) -> bool:
    """Whether a browser called over http from another machine, and keeps no session.

    A proxy with TLS calls over http too; but a browser says Sec-Fetch-Site over https and to its
    own machine only.
    """
    is_safe = request.scheme == "https" or "Sec-Fetch-Site" in request.headers
    return not is_safe and not network_rules.is_loopback(host_of(request))


def is_own_request(request: web.Request) -> bool:
    """Whether a request that changes something comes from a page of ours.

    Browsers say so in Sec-Fetch-Site; older ones in Origin. A request with neither is refused.
    """
    if request.method in _SAFE:
        return True
    if site := request.headers.get("Sec-Fetch-Site"):
        return site == "same-origin"
    try:
        origin = urlsplit(request.headers.get("Origin", "")).netloc
    except ValueError:
        return False
    return bool(origin) and origin.lower() == request.host.lower()


def cookie_name(request: web.Request) -> str:
    """Which cookie the browser can keep."""
    return COOKIE if network_rules.is_loopback(host_of(request)) else SECURE_COOKIE


def session_of(request: web.Request) -> str:
    """The secret of its session; "": it has none."""
    return request.cookies.get(cookie_name(request), "")


def set_session(request: web.Request, response: web.StreamResponse, secret: str) -> None:
    """Give the browser its session."""
    name = cookie_name(request)
    response.set_cookie(
        name, secret, path="/", httponly=True, samesite="Strict", secure=name == SECURE_COOKIE
    )


def clear_session(request: web.Request, response: web.StreamResponse) -> None:
    """Take it back."""
    name = cookie_name(request)
    response.del_cookie(
        name, path="/", httponly=True, samesite="Strict", secure=name == SECURE_COOKIE
    )
