"""`/docs`, `/openapi.json`: every page in the frame of the site, its search and its files; nothing
from other hosts.
"""

import asyncio
import json
import mimetypes
import re
from collections.abc import Iterator
from functools import cache
from html import escape
from importlib.resources import files as resources
from typing import Any, Final
from urllib.parse import quote

from aiohttp import web
from aiohttp.typedefs import Handler

from mailerd import __version__
from mailerd.core.i18n import Language, t
from mailerd.http.requests import chosen_language, keep_language
from mailerd.intake.docs import api_pages
from mailerd.intake.docs.library import MAX_QUERY, Commands, Hit, Library, SitePage, files
from mailerd.intake.docs.markdown import Page
from mailerd.intake.openapi import DOCS, document
from mailerd.locale import say, speak

_POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
_SAFE: Final = {
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "max-age=300",
}
_OWN: Final = {"style.css": "text/css", "script.js": "text/javascript", "icon.svg": "image/svg+xml"}
_SHOWN_AS: Final = {"image/png", "image/svg+xml"}
"""The types of files that a browser gets as what they are; all others are text."""
_HOST: Final = re.compile(
    r"(?:[\w.-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::\d{1,5})?", re.ASCII | re.IGNORECASE
)
_PLACEHOLDER: Final = "127.0.0.1:5000"
_MANY_HEADINGS: Final = 60
"""A page of so many sections shows the main ones in its right column."""
_AROUND: Final = 90
"""Characters that a result of the search shows on both sides of what was found."""
_MARKS: Final = "\x02", "\x03"
"""Around what was found, until the text is HTML."""


class DocsSite:
    """The endpoints.

    The pages of a language are made when the first of them is wanted, once for all who ask.
    """

    def __init__(self, commands: Commands | None = None) -> None:
        self._commands = commands
        self._document: dict[str, Any] | None = None
        self._json: str | None = None
        self._libraries: dict[Language, Library] = {}
        self._frames: dict[tuple[Language, str], str] = {}
        self._making = asyncio.Lock()

    def pages(self) -> dict[str, Handler]:
        """The handlers by their paths."""
        return {
            "/openapi.json": self.openapi,
            "/docs": self.page,
            "/docs/search": self.search,
            **{f"/docs/{name}": self.own for name in _OWN},
            "/docs/{name:.*}": self.page,
            "/": self.root,
        }

    async def root(self, request: web.Request) -> web.Response:  # noqa: ARG002
        """The way to the site, for who opens the bare address."""
        return web.Response(status=302, headers={"Location": "/docs"})

    async def openapi(self, request: web.Request) -> web.Response:
        """The document, which is English for every reader."""
        speak("en")
        if self._json is None:
            self._json = json.dumps(self._described()) + "\n"
        text = self._json.replace(DOCS, f"{_server(request)}/docs")
        return web.Response(text=text, content_type="application/json", headers=_SAFE)

    async def own(self, request: web.Request) -> web.Response:
        """The style sheet, the script and the icon."""
        speak("en")
        name = request.path.rpartition("/")[2]
        return web.Response(
            body=_own(name), content_type=_OWN[name], charset="utf-8", headers=_SAFE
        )

    async def page(self, request: web.Request) -> web.Response:
        """A page, or a file that pages show."""
        library = await self._library(request)
        name = request.match_info.get("name", "").rstrip("/") or "index"
        if (file := files().get(f"/docs/{name}")) is not None:
            speak("en")
            kind = mimetypes.guess_type(file.name)[0]
            body = await asyncio.to_thread(file.read_bytes)
            if kind in _SHOWN_AS:
                return web.Response(body=body, content_type=kind, headers=_SAFE)
            return web.Response(
                body=body, content_type="text/plain", charset="utf-8", headers=_SAFE
            )
        entry = library.entries.get(name)
        if entry is None:
            return self._answer(request, library, _frame(library, *_not_found()), status=404)
        if (html := self._frames.get((library.language, name))) is None:
            html = self._frames[library.language, name] = _frame(library, entry.page, entry)
        return self._answer(
            request, library, html.replace(api_pages.SERVER, _server(request)), entry.language
        )

    async def search(self, request: web.Request) -> web.Response:
        """The sections that hold what was looked for."""
        library = await self._library(request)
        query = request.query.get("q", "")[:MAX_QUERY]
        title = say(t("Search results"))
        page = Page(title, f"<h1>{title}</h1>{_results(library.search(query))}", ())
        return self._answer(request, library, _frame(library, page, query=query))

    async def _library(self, request: web.Request) -> Library:
        language = chosen_language(request)
        speak(language)
        async with self._making:
            if language not in self._libraries:
                self._libraries[language] = await asyncio.to_thread(self._made, language)
        return self._libraries[language]

    def _made(self, language: Language) -> Library:
        return Library(language, self._commands, api_pages.pages(self._described()))

    def _described(self) -> dict[str, Any]:
        if self._document is None:
            self._document = document()
        return self._document

    def _answer(
        self,
        request: web.Request,
        library: Library,
        html: str,
        language: Language | None = None,
        *,
        status: int = 200,
    ) -> web.Response:
        # Chromium compares no cookies for Vary: a page that it may show unasked would stay in the
        # language before.
        headers = {
            "Vary": "Accept-Language, Cookie",
            "Content-Language": language or library.language,
            "Cache-Control": "no-store" if "lang" in request.query else "no-cache",
        }
        response = web.Response(
            text=html, status=status, content_type="text/html", headers=_SAFE | headers
        )
        if "lang" in request.query:
            keep_language(response, library.language)
        return response


@cache
def _own(name: str) -> bytes:
    return resources("mailerd.intake.docs").joinpath(name.replace("style", "site")).read_bytes()


def _server(request: web.Request) -> str:
    """The address by which this reader came, for the examples; one that is no plain name is not
    repeated.
    """
    host = request.headers.get("Host", "")
    is_https = request.headers.get("X-Forwarded-Proto", request.scheme).lower() == "https"
    return f"http{'s' * is_https}://{host if _HOST.fullmatch(host) else _PLACEHOLDER}"


def _not_found() -> tuple[Page]:
    title = say(t("Page not found"))
    said = say(
        t(
            "The documents of this version have no such page. Search for it, or start on the first page."
        )
    )
    return (
        Page(
            title,
            f'<h1>{title}</h1><p>{said}</p><p><a href="/docs">{say(t("Documents"))}</a></p>',
            (),
        ),
    )


def _results(hits: list[Hit]) -> str:
    if not hits:
        return f"<p>{say(t('Nothing was found. Try other or fewer words.'))}</p>"
    return '<ol class="hits">' + "".join(map(_result, hits)) + "</ol>"


def _result(hit: Hit) -> str:
    section, page = hit.section, hit.entry.page
    title = page.title if section.title in {"", page.title} else f"{page.title} › {section.title}"
    begin = max(0, (hit.first or 0) - _AROUND)
    shown = hit.marked(section.text[begin : begin + 2 * _AROUND], *_MARKS)
    shown = escape(shown).replace(_MARKS[0], "<mark>").replace(_MARKS[1], "</mark>")
    dots = "… " if begin else ""
    return (
        f'<li><a href="{hit.entry.path}{"#" * bool(section.anchor)}{quote(section.anchor)}">{escape(title)}</a>'
        f"<p>{dots}{shown}</p></li>"
    )


def _frame(library: Library, page: Page, entry: SitePage | None = None, query: str = "") -> str:
    """The whole page: head, left column, the page itself, right column."""
    language, other = library.language, "en" if library.language == "zh" else "zh"
    code = {"en": "en", "zh": "zh-CN"}
    own = entry.language if entry else language
    asked = f"q={quote(query)}&amp;" if query else ""
    note = ""
    if own != language:
        note = f'<p class="note" lang="{code[language]}">{say(t("This page is available in English only."))}</p>'
    levels = {2, 3} if len(page.sections) < _MANY_HEADINGS else {2}
    headings = "".join(
        f'<li class="h{each.level}"><a href="#{quote(each.anchor)}">{escape(each.title)}</a></li>'
        for each in page.sections
        if each.anchor and each.level in levels
    )
    on_page = say(t("On this page"))
    right = (
        f'<nav class="right" aria-label="{on_page}"><h2>{on_page}</h2><ul>{headings}</ul></nav>'
        if headings
        else ""
    )
    search = say(t("Search"))
    return (
        f'<!doctype html>\n<html lang="{code[language]}">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f'<title>{escape(page.title)} · mailerd</title>\n<link rel="icon" href="/docs/icon.svg">\n'
        '<link rel="stylesheet" href="/docs/style.css">\n<script src="/docs/script.js" defer></script>\n</head>\n'
        f'<body data-copy="{say(t("Copy"))}" data-copied="{say(t("Copied"))}">\n'
        f'<a class="skip" href="#content">{say(t("Skip to content"))}</a>\n'
        f'<header class="top"><div><a class="brand" href="/docs"><img src="/docs/icon.svg" alt="">mailerd '
        f'<small>{__version__}</small></a>\n<a class="menu" href="#documents">{say(t("Contents"))}</a>\n'
        f'<form role="search" action="/docs/search"><input type="search" name="q" value="{escape(query)}" '
        f'maxlength="{MAX_QUERY}" aria-label="{search}" placeholder="{search}"><button>{search}</button></form>\n'
        f'<a href="?{asked}lang={other}" lang="{code[other]}">{"English" if other == "en" else "中文"}</a>'
        f"</div></header>\n"
        f'<div class="columns">\n<main id="content" lang="{code[own]}">{note}\n{page.html}\n</main>\n{right}\n'
        f'<nav class="left" id="documents" aria-label="{say(t("Documents"))}">{"".join(_left(library, entry))}</nav>\n'
        "</div>\n</body>\n</html>\n"
    )


def _left(library: Library, here: SitePage | None) -> Iterator[str]:
    def item(entry: SitePage) -> str:
        current = ' aria-current="page"' if entry is here else ""
        return f'<li><a href="{entry.path}"{current}>{escape(entry.page.title)}</a></li>'

    yield f"<ul>{item(library.entries['index'])}</ul>"
    for title, entries in library.by_kind():
        yield f"<h2>{title}</h2><ul>{''.join(map(item, entries))}</ul>"
