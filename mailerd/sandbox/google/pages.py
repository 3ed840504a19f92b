"""The outbox for people, in a browser.

A message's own HTML never runs a script and never fetches anything.
"""

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path
from typing import Any, cast

from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from yarl import URL

from mailerd.core.i18n import Text, t, tc, tn
from mailerd.core.network_rules import is_loopback
from mailerd.locale import accepted_language, language, say, speak
from mailerd.sandbox.google.answers import HTML, Answer
from mailerd.sandbox.google.control import find
from mailerd.sandbox.google.fake_google import FakeGoogle
from mailerd.sandbox.google.mailbox import Message, bodies, content, decoded_value

# What Gmail's "Unsubscribe" does with a message: one POST, as RFC 8058 has it, and nothing that a
# reader notices.
#
# The stand-in posts to loopback addresses alone, since nothing leaves this machine.

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
    """What a message says of leaving its list."""

    header: str
    """List-Unsubscribe as it stands; empty: the message has none."""
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


def offer(message: Message) -> UnsubscribeOffer:
    """Read the headers as Gmail does: with List-Unsubscribe-Post the first https address takes the
    POST.
    """
    header, post = message.header("List-Unsubscribe"), message.header("List-Unsubscribe-Post")
    urls = [it for it in _ADDRESS.findall(header) if it.lower().startswith(("https://", "http://"))]
    if not header:
        return UnsubscribeOffer(
            header,
            post,
            "",
            t("The message has no List-Unsubscribe header: it belongs to no list."),
        )
    if post.strip() != ONE_CLICK:
        why = t(
            "Gmail posts nothing without List-Unsubscribe-Post; only the mailto address can be used."
        )
        return UnsubscribeOffer(header, post, "", why)
    good = [it for it in urls if it.lower().startswith("https://") or is_loopback(_host(it))]
    if not good:
        return UnsubscribeOffer(
            header, post, "", t("The header has no https address, and Gmail posts to no other.")
        )
    if not is_loopback(_host(good[0])):
        return UnsubscribeOffer(
            header, post, "", t("{url} is not on this machine, and nothing leaves it.", url=good[0])
        )
    return UnsubscribeOffer(header, post, good[0], "")


async def press(it: UnsubscribeOffer) -> UnsubscribeOutcome:
    """Press the button: one POST without a cookie, without following a redirect."""
    if not it.url or not is_loopback(_host(it.url)):
        return UnsubscribeOutcome(False, it.why_not or t("Nothing was posted."))
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    try:
        async with (
            ClientSession(
                cookie_jar=DummyCookieJar(), timeout=ClientTimeout(total=TIMEOUT_S)
            ) as session,
            session.post(
                it.url, data=ONE_CLICK.encode(), headers=headers, allow_redirects=False
            ) as answer,
        ):
            body = (await answer.content.read(_READ)).decode("utf-8", "replace")
    except TimeoutError:
        return UnsubscribeOutcome(False, t("No response within {seconds:g} s.", seconds=TIMEOUT_S))
    except (ClientError, ValueError, OSError) as error:
        return UnsubscribeOutcome(
            False, t("No response: {cause}", cause=str(error) or type(error).__name__)
        )
    line = f"{answer.status} {answer.reason or ''}".strip()
    if answer.status // 100 == 3:  # noqa: PLR2004 -- HTTP's redirects
        where = answer.headers.get("Location", "-")
        line = t(
            "{status}: a redirect to {url}, which Gmail does not follow", status=line, url=where
        )
    return UnsubscribeOutcome(answer.status // 100 == 2, line, _readable(body))  # noqa: PLR2004 -- HTTP's successes


def _host(url: str) -> str:
    try:
        return URL(url).host or ""
    except ValueError:
        return ""


def _readable(html: str) -> str:
    lines = (line.strip() for line in _TAGS.sub("\n", html).splitlines())
    return "\n".join(line for line in lines if line)[:_SHOWN]


MESSAGES = "/messages/"
PAGES = ("/", "/style.css", "/usage", "/log", "/faults")
_PER_PAGE = 50
_LOGGED = 200
"""Requests that the page of the log shows."""
_HERE = Path(__file__).parent / "pages"
_OWN_POLICY = (
    "default-src 'none'; style-src 'self'; frame-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
# `sandbox` makes the message an origin of its own without scripts, forms or pop-ups, even when it
# is opened by itself.
_MESSAGE_POLICY = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:"
)


class Pages:
    """Renders the outbox, one message, and a message's HTML part."""

    def __init__(self, google: FakeGoogle) -> None:
        self._google = google
        self._jinja = Environment(
            loader=FileSystemLoader(_HERE),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
        )
        self._jinja.filters["moment"] = _moment
        self._jinja.globals |= {
            "t": _said(t),
            "tn": _said(tn),
            "tc": _said(tc),
            "say": say,
            "language": language,
        }
        self._language = language()

    def speak(self, accept_language: str) -> None:
        """Choose the language of an answer: what the browser asks for, else the one that the
        sandbox speaks.
        """
        speak(accepted_language(accept_language, otherwise=self._language))

    def answer(self, path: str, query: Mapping[str, str]) -> Answer:
        """Answer a GET of "/", of the style sheet or below /messages/."""
        if path == "/":
            return self._list(query)
        if path == "/style.css":
            return Answer(200, (_HERE / "style.css").read_bytes(), "text/css; charset=UTF-8")
        if path in PAGES:
            return self._table(path)
        ident, _, part = path.removeprefix(MESSAGES).partition("/")
        try:
            message = find(self._google, ident)
        except KeyError:
            return self._page(404, "missing.html")
        if part == "html":
            return _html_answer(200, _inert_html(message.parsed), _MESSAGE_POLICY)
        return self._message(message) if not part else self._page(404, "missing.html")

    async def unsubscribe(self, path: str) -> Answer:
        """Answer a POST of the button on a message's page."""
        ident, _, part = path.removeprefix(MESSAGES).partition("/")
        try:
            message = find(self._google, ident)
        except KeyError:
            return self._page(404, "missing.html")
        if part != "unsubscribe":
            return self._page(404, "missing.html")
        found = offer(message)
        return self._page(
            200,
            "unsubscribed.html",
            message=message,
            offer=found,
            body=ONE_CLICK,
            outcome=await press(found),
        )

    def _list(self, query: Mapping[str, str]) -> Answer:
        wanted = query.get("q", "").strip()
        number = int(query["page"]) if query.get("page", "").isdecimal() else 1
        sent = self._google.sent
        found: list[Message] = [
            x for x in sent if wanted.lower() in x.to.lower() or wanted.lower() in x.sender
        ]
        pages = max(1, -(-len(found) // _PER_PAGE))
        number = min(max(number, 1), pages)
        newest = found[::-1][(number - 1) * _PER_PAGE : number * _PER_PAGE]
        return self._page(
            200,
            "outbox.html",
            messages=newest,
            q=wanted,
            page=number,
            pages=pages,
            found=len(found),
            total=len(sent),
            drafts=len(self._google.drafts()),
            duplicates=self._google.duplicates(),
        )

    def _table(self, path: str) -> Answer:
        """What was used of the allowances, the newest requests, or the faults."""
        google = self._google
        match path:
            case "/usage":
                heading = t("Usage of quotas")
                headings = [
                    t("Mailbox"),
                    t("Sent"),
                    t("Drafts"),
                    t("Units in the last minute"),
                    t("Limit"),
                    t("Throttled"),
                ]
                rows = [
                    [
                        email,
                        it["sent"],
                        it["drafts"],
                        it["units_last_minute"],
                        it["allowance"] or t("no limit"),
                        sum(it["throttled"].values()),
                    ]
                    for email, it in google.usage()["users"].items()
                ]
            case "/log":
                heading = t("Log")
                headings = [
                    t("Time"),
                    t("Mailbox"),
                    t("Method"),
                    t("Response"),
                    t("Units"),
                    t("Draft"),
                ]
                newest = list(google.log)[: -_LOGGED - 1 : -1]
                rows = [
                    [
                        _moment(it.at),
                        it.user,
                        it.method,
                        it.status or t("none"),
                        it.units,
                        it.draft_id,
                    ]
                    for it in newest
                ]
            case _:
                heading = t("Faults")
                headings = [
                    t("ID"),
                    t("Fault"),
                    t("Method"),
                    t("Mailbox"),
                    t("How many times"),
                    t("Occurred"),
                ]
                faults = [*google.faults.armed, *google.faults.spent]
                rows = [
                    [
                        it.id,
                        it.fault.kind,
                        it.fault.method or t("all"),
                        it.fault.sender or t("all"),
                        t("until cleared") if it.fault.count < 0 else it.fault.count,
                        it.struck,
                    ]
                    for it in faults
                ]
        return self._page(
            200, "table.html", title=path[1:], heading=heading, headings=headings, rows=rows
        )

    def _message(self, message: Message) -> Answer:
        text, html = bodies(message.parsed)
        attachments = [
            {
                "name": part.get_filename() or say(t("unnamed")),
                "kind": part.get_content_type(),
                "size": len(content(part)),
            }
            for part in cast("list[EmailMessage]", list(message.parsed.iter_attachments()))
        ]
        return self._page(
            200,
            "message.html",
            message=message,
            headers=[(name, decoded_value(value)) for name, value in message.headers],
            text=text,
            html=bool(html),
            attachments=attachments,
            offer=offer(message),
        )

    def _page(self, status: int, template: str, **values: Any) -> Answer:
        return _html_answer(
            status, self._jinja.get_template(template).render(**values), _OWN_POLICY
        )


def _html_answer(status: int, text: str, policy: str) -> Answer:
    headers = (
        ("Content-Security-Policy", policy),
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "no-referrer"),
        ("Cache-Control", "no-store"),
    )
    return Answer(status, text.encode("utf-8", "replace"), HTML, headers)


def _inert_html(mail: EmailMessage) -> str:
    """A message's HTML with its inline pictures put into it, since `cid:` means nothing to a
    browser.
    """
    pictures = {
        part["Content-ID"].strip(
            "<> "
        ): f"data:{part.get_content_type()};base64,{base64.b64encode(content(part)).decode()}"
        for part in cast("list[EmailMessage]", list(mail.walk()))
        if part["Content-ID"] and part.get_content_maintype() == "image"
    }
    return re.sub(r"cid:([^\"'\s>)]+)", lambda m: pictures.get(m[1], m[0]), bodies(mail)[1])


def _said(make: Callable[..., Text]) -> Callable[..., str]:
    """What makes a text, as pages call it: in the language of the answer."""
    return lambda *templates, **fields: say(make(*templates, **fields))


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, tz=UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
