"""What the console keeps in a browser beside its session: the theme, the reader's zone, and what
the last form did.
"""

from typing import Final
from urllib.parse import unquote
from zoneinfo import ZoneInfo

from aiohttp import web

_THEME: Final = "mailerd-theme"
_SAID: Final = "mailerd-said"
_MAX_SAID: Final = 300
_YEAR: Final = 365 * 86_400


def theme_of(request: web.Request) -> str:
    """What its reader has chosen by `?theme=`, now or before: `light` or `dark`; else `auto`, as
    the browser has it.
    """
    wish = request.query.get("theme") or request.cookies.get(_THEME, "")
    return wish if wish in {"light", "dark"} else "auto"


def keep_theme(request: web.Request, response: web.StreamResponse) -> None:
    """Have the pages that follow in the theme of this one."""
    response.set_cookie(_THEME, theme_of(request), max_age=_YEAR, httponly=True, samesite="Lax")


def zone_of(request: web.Request) -> ZoneInfo:
    """The zone of the reader, as a script has found it; without one UTC, in which the page then
    is.
    """
    try:
        return ZoneInfo(unquote(request.cookies.get("mailerd-zone", "")) or "UTC")
    except (KeyError, ValueError, OSError):  # no such zone, or no name of one
        return ZoneInfo("UTC")


def said_before(request: web.Request) -> str:
    """What the last action has to say."""
    try:
        return bytes.fromhex(request.cookies.get(_SAID, "")).decode("utf-8")
    except ValueError:
        return ""


def keep_said(response: web.StreamResponse, text: str, *, lasts: float = 60) -> None:
    """Let the next page say it, as a cookie can hold it, within so many seconds; "": nothing any
    more.
    """
    if text:
        shown = text[:_MAX_SAID].encode("utf-8", "replace").hex()
        response.set_cookie(_SAID, shown, max_age=int(lasts), httponly=True, samesite="Strict")
    else:
        response.del_cookie(_SAID)
