"""A dry run: every letter is rendered and weighed as it would be sent, and none is kept."""

import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from mailerd.intake.check_recipients import RejectedRecipient, stopped_too_often
from mailerd.intake.errors import ApiError, cut
from mailerd.intake.middleware import shortened
from mailerd.intake.parse_job import ParsedJob
from mailerd.mail.attachments import check_size, encoded_size
from mailerd.mail.mime import Envelope, compose
from mailerd.mail.render_queue import MAX_STOPPED, Rendered
from mailerd.mail.renderer import ThreadRenderer
from mailerd.mail.templates import Content, RecipientData
from mailerd.store.jobs import NewRecipient

WITHIN: Final = 60.0
"""Seconds for all letters of a dry run; 10,000 plain ones take about two."""
BATCH: Final = 50
"""Letters that are in memory at once."""
SAMPLES: Final = 3
SAMPLE_AT_MOST: Final = 100_000
"""Bytes of each part of a sample that are shown, as JSON has them."""
SUBJECT_AT_MOST: Final = 5_000
NAMES_AT_MOST: Final = 200
"""Bytes of an attachment's name that are shown."""


@dataclass
class DryRun:
    """What a dry run found."""

    rejected: list[RejectedRecipient] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=lambda: {"smallest": 0, "average": 0, "largest": 0, "total": 0})
    """Bytes of the letters as Google would get them, attachments included."""
    samples: list[dict[str, Any]] = field(default_factory=list)


def dry_run(order: ParsedJob, *, renderer: ThreadRenderer, now: datetime) -> DryRun:
    """Make every letter of an order.

    Raises:
        ApiError: 422, it takes too long.
        RendererError: nothing can be rendered now.
    """
    until, found, sizes = time.monotonic() + WITHIN, DryRun(), list[int]()
    luggage = _luggage(order)
    good = [(seq, each) for seq, each in enumerate(order.job.recipients) if each.error is None]
    for start in range(0, len(good), BATCH):
        batch = good[start : start + BATCH]
        if time.monotonic() > until:
            raise _too_costly(order, batch[0][0])
        made = _rendered(order, batch, renderer, until=until)
        for (seq, recipient), content in zip(batch, made, strict=True):
            try:
                size = _size(order, recipient, seq, content, now=now)
                size = check_size(size + luggage.get(None, 0) + luggage.get(seq, 0))
            except ValueError as error:
                found.rejected.append(RejectedRecipient(seq, recipient.email, cut(str(error))))
                continue
            sizes.append(size)
            if len(found.samples) < SAMPLES and isinstance(content, Content):
                found.samples.append(_sample(order, seq, recipient, content, size))
    if sizes:
        total = sum(sizes)
        found.sizes = {"smallest": min(sizes), "average": total // len(sizes), "largest": max(sizes), "total": total}
    return found


def _rendered(
    order: ParsedJob, batch: list[tuple[int, NewRecipient]], renderer: ThreadRenderer, *, until: float
) -> list[Rendered]:
    readers = [RecipientData(each.email, each.name, each.variables) for _, each in batch]
    rendering = renderer.start(order.template, readers, content=True)
    try:
        made = rendering.result(timeout=max(until - time.monotonic(), 0.0))
    except TimeoutError:
        rendering.cancel()
        raise _too_costly(order, batch[0][0]) from None
    stopped = [str(each[0]) for each in made if isinstance(each, list) and each[0].bound]
    if len(stopped) >= MAX_STOPPED:
        raise stopped_too_often(stopped[0])
    return made


def _luggage(order: ParsedJob) -> dict[int | None, int]:
    """Bytes that the attachments of single recipients, and of everybody (None), take up."""
    sizes: dict[int | None, int] = {}
    for each in order.job.attachments:
        size = encoded_size(len(each.content), filename=each.filename)
        sizes[each.recipient] = sizes.get(each.recipient, 0) + size
    return sizes


def _too_costly(order: ParsedJob, done: int) -> ApiError:
    return ApiError(
        422,
        "too_costly",
        f"after {WITHIN:g} s only {done:,} of {order.total:,} letters were rendered: try fewer recipients, "
        "or make the template simpler; nothing was stored",
    )


def _size(order: ParsedJob, recipient: NewRecipient, seq: int, content: Rendered, *, now: datetime) -> int:
    """Bytes of a letter without its attachments.

    Raises:
        ValueError: it cannot be made.
    """
    if not isinstance(content, Content):
        raise ValueError(str(content[0]))  # noqa: TRY004 - a letter's fault, not a program's
    job = order.job
    sender = job.from_email or job.sender_email
    envelope = Envelope(
        sender_email=sender,
        sender_name=job.sender_name,
        reply_to=job.reply_to,
        to_email=recipient.email,
        to_name=recipient.name,
        key=f"{job.id}-{seq}",
    )
    domain = sender.rpartition("@")[2]
    return len(compose(content, envelope, date=now, message_id=f"<{job.id.lower()}{seq}@{domain}>"))


def _sample(order: ParsedJob, seq: int, recipient: NewRecipient, content: Content, size: int) -> dict[str, Any]:
    return {
        "index": seq,
        "email": recipient.email,
        "subject": shortened(content.subject, most=SUBJECT_AT_MOST),
        "html": content.html and shortened(content.html, most=SAMPLE_AT_MOST),
        "text": shortened(content.text, most=SAMPLE_AT_MOST),
        "bytes": size,
        "attachments": [
            shortened(each.filename, most=NAMES_AT_MOST)
            for each in order.job.attachments
            if each.recipient in {None, seq}
        ],
    }
