"""Examines whether unsubscribe links work: whether `public.base_url` leads to our own page."""

import asyncio
from typing import Final

import aiohttp

from mailerd.cli.checks.result import CheckResult, fail, ok, warn
from mailerd.config import PublicSettings
from mailerd.core.suppression import DEAD_TOKEN
from mailerd.intake.unsubscribe_pages import MARK

ANSWER_TIMEOUT: Final = 5.0
"""Seconds for the whole answer; mail programs wait for some ten."""
_CONNECT_TIMEOUT: Final = 1.0
"""Seconds for our own listener to be reached."""
_MAX_READ: Final = 64 * 1024
"""Bytes of the answer that are read; our pages have one or two thousand."""
_CHECK: Final = "public: base_url"


async def examine(settings: PublicSettings) -> list[CheckResult]:
    """The finding; none where there are no unsubscribe links.

    A link that no key has made is asked for: only our site answers it with its page, and nothing is changed by it.
    """
    if not settings.base_url:
        return []
    url = f"{settings.base_url}/u/{DEAD_TOKEN}"
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_TIMEOUT)) as session,
            session.get(url, allow_redirects=False) as answer,
        ):
            body = await answer.content.read(_MAX_READ)
            status, place = answer.status, answer.headers.get("Location", "")
    except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError) as error:
        remedy = (
            "give the proxy a certificate for this name that mail programs trust; "
            "without one no recipient can unsubscribe"
        )
        return [fail(_CHECK, f"{settings.base_url} has no good certificate: {error}", remedy=remedy)]
    except TimeoutError:
        return [await _unreachable(settings, f"no answer within {ANSWER_TIMEOUT:g} s")]
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return [await _unreachable(settings, str(error) or type(error).__name__)]
    return [evaluate(settings, status=status, ours=MARK.encode() in body, location=place)]


def evaluate(settings: PublicSettings, *, status: int, ours: bool, location: str = "") -> CheckResult:
    """What an answer means; `ours`: it is a page of our site."""
    base, links = settings.base_url, f"{settings.base_url}/u/"
    if ours and status == 503:  # noqa: PLR2004 - HTTP's "unavailable"
        remedy = "see what the findings say of the database; mail programs try again, but not for ever"
        return warn(_CHECK, f"{base} leads to our site, which cannot reach its database", remedy=remedy)
    if ours:
        return ok(_CHECK, f"{base} answers with our page")
    if 300 <= status < 400:  # noqa: PLR2004 - HTTP's redirects
        remedy = f"let {links} answer without a redirect: mail programs follow none"
        return fail(_CHECK, f"{base} redirects to {location or 'nowhere'}", remedy=remedy)
    passed = f"{settings.host}:{settings.port}" if settings.port else "the daemon whose public.port is set"
    remedy = f"let the proxy pass {links} to {passed} and leave the answers as they are, or correct public.base_url"
    return fail(_CHECK, f"{base} answers with {status} and a page that is not ours", remedy=remedy)


async def _unreachable(settings: PublicSettings, why: str) -> CheckResult:
    what = f"{settings.base_url} cannot be reached: {why}"
    if settings.port and not await _listens(settings):
        where = f"{settings.host}:{settings.port}"
        return warn(
            _CHECK, f"{what}; nothing listens on {where}", remedy="start the daemon (`mailerd run`), and ask again"
        )
    remedy = (
        "see to the name in the DNS, the firewall and the proxy: "
        "until it answers, no recipient can unsubscribe by the links"
    )
    return fail(_CHECK, what, remedy=remedy)


async def _listens(settings: PublicSettings) -> bool:
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 - it is compared, nothing binds to it
    try:
        async with asyncio.timeout(_CONNECT_TIMEOUT):
            _, writer = await asyncio.open_connection(reachable, settings.port)
    except (OSError, TimeoutError):
        return False
    writer.transport.abort()
    return True
