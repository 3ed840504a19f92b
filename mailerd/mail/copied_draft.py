"""Copies what a person wrote as a draft in Gmail: subject, text and inline pictures, as the
template of a job.

The draft is a stranger's bytes: a process of its own parses it, which the system bounds, and no
other one does.
"""

import asyncio
import json
from collections import defaultdict
from dataclasses import dataclass
from typing import Final, Self

from mailerd.core.i18n import t
from mailerd.core.reasons import from_json
from mailerd.errors import MailerdError
from mailerd.events.worker import RendererEvents
from mailerd.mail.cage import BLOB, Blob, ChildEndedError, ChildExits, ChildProcess, Limits
from mailerd.mail.templates import RendererError, Source, Template

LIMITS: Final = Limits(cpu=10.0, memory=640 * 1024 * 1024)
"""For one draft, whatever is in it."""
READ_TIMEOUT: Final = 30.0
"""Seconds for the whole of it, waiting for the CPU included."""
MAX_HTML: Final = 1_000_000
"""Characters of its text; one without pictures has a few thousand."""
MAX_PARTS: Final = 500
"""Parts of it, the files that are left out included."""
MAX_PICTURES: Final = 50
"""Inline pictures: the API takes as many files of a job.

Their bytes are bounded by those of a draft that is read.
"""
_CHILD: Final = "mailerd.mail.copied_draft_child"
_AT_ONCE: Final = 2


class DraftNotCopiedError(MailerdError):
    """The draft cannot be a message; the text says why and what to do."""


@dataclass(frozen=True)
class DraftPicture:
    """An inline picture of a draft."""

    filename: str
    """What the HTML calls it, behind `cid:`."""
    content_type: str
    content: bytes

    @property
    def fields(self) -> dict[str, str]:
        """It as the API takes an attachment, without its content."""
        return {
            "filename": self.filename,
            "content_type": self.content_type,
            "content_id": self.filename,
        }


@dataclass(frozen=True)
class CopiedDraft:
    """What a draft said when it was copied."""

    subject: str
    html: str | None
    """Its pictures are at `cid:` and their file names. None: the draft is plain text."""
    text: str | None
    pictures: tuple[DraftPicture, ...] = ()
    left_out: tuple[str, ...] = ()
    """What else was attached, by its names."""

    def pack(self) -> bytes:
        """It for a row of the database: a line of JSON, then its texts and pictures as they are."""
        texts = [
            None if each is None else each.encode("utf-8", "surrogatepass")
            for each in (self.html, self.text)
        ]
        head = {
            "subject": self.subject,
            "texts": [None if each is None else len(each) for each in texts],
            "pictures": [
                [each.filename, each.content_type, len(each.content)] for each in self.pictures
            ],
            "left_out": self.left_out,
        }
        contents = (each.content for each in self.pictures)
        return b"".join([json.dumps(head).encode(), b"\n", *filter(None, texts), *contents])

    @classmethod
    def unpack(cls, packed: Blob) -> Self:
        """What `pack` made this of.

        Raises:
            DraftNotCopiedError: an earlier version has stored it.
        """
        at = packed.find(b"\n") + 1
        if not at:
            raise DraftNotCopiedError(
                t("The copy of the draft cannot be read. Copy the draft again.")
            )

        def taken(size: int) -> bytes:
            nonlocal at
            at += size
            return bytes(packed[at - size : at])

        head = json.loads(packed[:at])
        html, text = (
            None if size is None else taken(size).decode("utf-8", "surrogatepass")
            for size in head["texts"]
        )
        pictures = tuple(
            DraftPicture(name, kind, taken(size)) for name, kind, size in head["pictures"]
        )
        return cls(head["subject"], html, text, pictures, tuple(head["left_out"]))

    @property
    def parts(self) -> dict[str, str]:
        """Its texts, as the API takes a template."""
        parts = {"subject": self.subject, "html": self.html, "text": self.text}
        return {name: part for name, part in parts.items() if part}

    @property
    def template(self) -> Template:
        """What renders it."""
        return Template(Source(self.subject, self.html, self.text))


class DraftCopier:
    """Copies drafts, a few at a time, never two of one origin at once: a hostile draft holds up its
    reader alone.
    """

    def __init__(self, events: RendererEvents) -> None:
        self._exits = ChildExits("drafts", events)
        self._turns = defaultdict[str, asyncio.Lock](asyncio.Lock)
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def copy(self, raw: bytes, *, origin: str) -> CopiedDraft:
        """What a draft says. `origin`: who reads it, as the log calls them.

        Raises:
            DraftNotCopiedError: it cannot be a message.
            RendererError: no process can be started now; nothing is known about the draft.
        """
        async with self._turns[origin], self._places:
            child = await ChildProcess.start(LIMITS, module=_CHILD)
            try:
                answer = await child.ask({"copy": True}, blob=raw, timeout=READ_TIMEOUT)
            except ChildEndedError as ended:
                self._exits.record(origin, ended.cause)
                if not ended.by_work:
                    raise RendererError(
                        t("the process that reads drafts {cause}", cause=ended.cause)
                    ) from ended
                raise DraftNotCopiedError(
                    t("reading the draft {cause}", cause=ended.cause)
                ) from ended
            finally:
                await child.kill()
        if refused := answer.get("refused"):
            raise DraftNotCopiedError(from_json(refused))
        return CopiedDraft.unpack(answer[BLOB])
