"""Copies what a person wrote as a draft in Gmail: subject, text and inline pictures, as the template of a job.

The draft is a stranger's bytes: a process of its own parses it, which the system bounds, and no other one does.
"""

import asyncio
import json
from base64 import b64decode
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

from mailerd.core.i18n import t
from mailerd.core.reasons import from_json
from mailerd.errors import MailerdError
from mailerd.events.worker import RendererEvents
from mailerd.mail.cage import ChildEndedError, ChildExits, ChildProcess, Limits
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
"""Inline pictures: the API takes as many files of a job. Their bytes are bounded by those of a draft that is read."""
_CHILD: Final = "mailerd.mail.copied_draft_child"
_AT_ONCE: Final = 2


class DraftNotCopiedError(MailerdError):
    """The draft cannot be a message; the text says why and what to do."""


@dataclass(frozen=True)
class CopiedDraft:
    """What a draft said when it was copied."""

    subject: str
    html: str | None
    """Its pictures are at `cid:` and their file names. None: the draft is plain text."""
    text: str | None
    pictures: tuple[dict[str, str], ...] = ()
    """As the API takes attachments: `filename`, `content_type`, `content_id` and the `content` in base64."""
    left_out: tuple[str, ...] = ()
    """What else was attached, by its names."""

    def pack(self) -> bytes:
        """It as JSON, for a row of the database."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def unpack(cls, packed: bytes) -> Self:
        """What `pack` made this of."""
        return cls.of(json.loads(packed))

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """It of its fields as JSON has them."""
        return cls(**{**given, "pictures": tuple(given["pictures"]), "left_out": tuple(given["left_out"])})

    @classmethod
    def message_of(
        cls, packed: bytes
    ) -> tuple[dict[str, Any], Template, dict[str, tuple[str, bytes]], list[Mapping[str, str]]]:
        """What a packed one comes to: fields of a job, what renders it, its pictures by name, and as attachments."""
        it = cls.unpack(packed)
        parts = {name: part for name, part in (("subject", it.subject), ("html", it.html), ("text", it.text)) if part}
        pictures = {each["filename"]: (each["content_type"], b64decode(each["content"])) for each in it.pictures}
        return {"template": parts}, Template(Source(it.subject, it.html, it.text)), pictures, [*it.pictures]


class DraftCopier:
    """Copies drafts, a few at a time, never two of one origin at once: a hostile draft holds up its reader alone."""

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
                    raise RendererError(t("the process that reads drafts {cause}", cause=ended.cause)) from ended
                raise DraftNotCopiedError(t("reading the draft {cause}", cause=ended.cause)) from ended
            finally:
                await child.kill()
        if refused := answer.get("refused"):
            raise DraftNotCopiedError(from_json(refused))
        return CopiedDraft.of(answer["copied"])
