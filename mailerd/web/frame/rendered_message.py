"""A message as its recipient would see it, in a frame that runs nothing and loads nothing."""

import asyncio
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from typing import Final

from aiohttp import web

from mailerd.errors import MailerdError
from mailerd.http.responses import write
from mailerd.mail.mime import MAX_MESSAGE_BYTES
from mailerd.mail.templates import Content, RecipientData, Template
from mailerd.web.frame.guards import MESSAGE_HEADERS
from mailerd.web.frame.services import ConsoleRequest

_CID: Final = re.compile(r"""cid:([^"'\s)>]+)""")
"""What an inline image is called in a message (RFC 2392)."""
_PIECE: Final = 3 * 16 * 1024
"""Bytes, or characters, of a piece of a message that is shown; base64 goes by threes."""
_MAX_TEXTS: Final = 2_000
"""Texts of which a piece is made: each takes half a microsecond."""


async def render_one(
    it: ConsoleRequest, template: Template, reader: RecipientData
) -> Content | str:
    """A message, made where the clients' templates are made, or why it cannot be."""
    try:
        (made,) = await it.services.renderer.render(template, [reader], origin=f"key {it.key.name}")
    except MailerdError as error:
        return str(error)
    return made if isinstance(made, Content) else str(made[0])


async def frame(
    it: ConsoleRequest, made: Content | str, pictures: Mapping[str, tuple[str, bytes]]
) -> web.StreamResponse:
    """A message for a sandboxed frame.

    `pictures`: type and content of its inline images, by their content ids.

    It is written piece by piece: in one it would hold the event loop, and all of it would be in
    memory.
    """
    if isinstance(made, str) or made.html is None:
        subject, text = ("", made) if isinstance(made, str) else (made.subject, made.text)
        page = it.page("frame.html", subject=subject, text=text, live=False)
        page.headers.update(MESSAGE_HEADERS)
        return page
    response = web.StreamResponse(headers=MESSAGE_HEADERS)
    response.content_type, response.charset = "text/html", "utf-8"
    await response.prepare(it.http)
    if it.http.method != "HEAD":
        for piece in _pieces(made.html, pictures):
            await write(response, piece)
            await asyncio.sleep(0)  # who reads fast would have it write without a pause
    await response.write_eof()
    return response


def _pieces(html: str, pictures: Mapping[str, tuple[str, bytes]]) -> Iterator[bytes]:
    """The HTML with its pictures in it, in pieces that take a millisecond or so.

    A message carries a picture once and may show it ten thousand times: it is shown as far as there
    is room.
    """
    piece, texts = list[str](), _texts(html, pictures)
    size = 0
    for text in texts:
        piece.append(text)
        size += len(text)
        if size >= _PIECE or len(piece) == _MAX_TEXTS:
            yield "".join(piece).encode()
            piece.clear()
            size = 0
    yield "".join(piece).encode()


def _texts(html: str, pictures: Mapping[str, tuple[str, bytes]]) -> Iterator[str]:
    """What a message that is shown is made of, none of it longer than base64 makes a piece."""
    room, at = MAX_MESSAGE_BYTES, 0
    for found in _CID.finditer(html):
        yield from _cut(html, at, found.start())
        at = found.end()
        kind, content = pictures.get(found[1], ("", b""))
        room -= len(content)
        if kind.startswith("image/") and room >= 0:
            yield f"data:{kind};base64,"
            yield from (
                b64encode(content[start : start + _PIECE]).decode()
                for start in range(0, len(content), _PIECE)
            )
        else:
            yield "data:,"
    yield from _cut(html, at, len(html))


def _cut(text: str, start: int, end: int) -> Iterator[str]:
    yield from (text[at : min(at + _PIECE, end)] for at in range(start, end, _PIECE))
