"""What Gmail's "Unsubscribe" does with a letter: one POST, as RFC 8058 has it, and nothing that a reader notices.

The stand-in posts to loopback addresses alone, since nothing leaves this machine.
"""

import re
from dataclasses import dataclass

from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar
from yarl import URL

from mailerd.core.network_rules import is_loopback
from mailerd.sandbox.google.letters import Letter

ONE_CLICK = "List-Unsubscribe=One-Click"
"""The header List-Unsubscribe-Post, and the body of the POST (RFC 8058, section 3.1)."""
TIMEOUT_S = 10.0
_SHOWN = 2_000
"""Characters of the answer that are shown."""
_READ = 64 * 1024
_ADDRESS = re.compile(r"<\s*([^<>\s]+)\s*>")
_TAGS = re.compile(r"<(style|script|head)\b.*?</\1\s*>|<[^>]*>", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True)
class UnsubscribeOffer:
    """What a letter says of leaving its list."""

    header: str
    """List-Unsubscribe as it stands; empty: the letter has none."""
    post: str
    """The value of the header List-Unsubscribe-Post."""
    url: str
    """Where one POST unsubscribes; empty: the button cannot do anything."""
    why_not: str
    """Why there is no button."""


@dataclass(frozen=True)
class UnsubscribeOutcome:
    """What was answered to the POST."""

    ok: bool
    line: str
    """The status, or why there is none."""
    text: str = ""
    """The beginning of what was answered, as text."""


def offer(letter: Letter) -> UnsubscribeOffer:
    """Read the headers as Gmail does: with List-Unsubscribe-Post the first https address takes the POST."""
    header, post = letter.header("List-Unsubscribe"), letter.header("List-Unsubscribe-Post")
    urls = [it for it in _ADDRESS.findall(header) if it.lower().startswith(("https://", "http://"))]
    if not header:
        return UnsubscribeOffer(header, post, "", "The letter has no List-Unsubscribe: it is of no list.")
    if post.strip() != ONE_CLICK:
        why = "Gmail posts nothing without List-Unsubscribe-Post: the mailto address is all there is."
        return UnsubscribeOffer(header, post, "", why)
    good = [it for it in urls if it.lower().startswith("https://") or is_loopback(_host(it))]
    if not good:
        return UnsubscribeOffer(header, post, "", "There is no https address, and Gmail posts to no other.")
    if not is_loopback(_host(good[0])):
        return UnsubscribeOffer(header, post, "", f"{good[0]} is not on this machine, and nothing leaves it.")
    return UnsubscribeOffer(header, post, good[0], "")


async def press(it: UnsubscribeOffer) -> UnsubscribeOutcome:
    """Press the button: one POST without a cookie, without following a redirect."""
    if not it.url or not is_loopback(_host(it.url)):
        return UnsubscribeOutcome(False, it.why_not or "Nothing was posted.")
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    try:
        async with (
            ClientSession(cookie_jar=DummyCookieJar(), timeout=ClientTimeout(total=TIMEOUT_S)) as session,
            session.post(it.url, data=ONE_CLICK.encode(), headers=headers, allow_redirects=False) as answer,
        ):
            body = (await answer.content.read(_READ)).decode("utf-8", "replace")
    except TimeoutError:
        return UnsubscribeOutcome(False, f"There was no answer within {TIMEOUT_S:g} s.")
    except (ClientError, ValueError, OSError) as error:
        return UnsubscribeOutcome(False, f"There was no answer: {str(error) or type(error).__name__}")
    line = f"{answer.status} {answer.reason or ''}".strip()
    if answer.status // 100 == 3:  # noqa: PLR2004 -- HTTP's redirects
        line += f" to {answer.headers.get('Location', 'nowhere')}, which Gmail does not follow"
    return UnsubscribeOutcome(answer.status // 100 == 2, line, _readable(body))  # noqa: PLR2004 -- HTTP's successes


def _host(url: str) -> str:
    try:
        return URL(url).host or ""
    except ValueError:
        return ""


def _readable(html: str) -> str:
    lines = (line.strip() for line in _TAGS.sub("\n", html).splitlines())
    return "\n".join(line for line in lines if line)[:_SHOWN]
