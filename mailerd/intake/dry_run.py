"""A dry run: renders every letter as it would be sent, checks its size, and stores nothing."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from mailerd.intake.attachments import encoded_sizes, letter_size
from mailerd.intake.check_recipients import RejectedRecipient, stopped_too_often, unsubscribe_link
from mailerd.intake.check_time import CheckTime
from mailerd.intake.errors import cut
from mailerd.intake.http_responses import shortened
from mailerd.intake.parse_job import ParsedJob
from mailerd.intake.response_models import SampleOut, SizesOut
from mailerd.mail.renderer import MAX_STOPPED, Rendered, ThreadRenderer
from mailerd.mail.templates import Content, RecipientData
from mailerd.store.new_job import NewRecipient

DRY_RUN_TIMEOUT: Final = 60.0
"""Seconds for all letters of a dry run; 10,000 plain ones take about two."""
BATCH: Final = 50
"""Letters that are in memory at once."""
MAX_SAMPLES: Final = 3
MAX_SAMPLE_BYTES: Final = 100_000
"""Bytes of each part of a sample that are shown, as JSON has them."""
MAX_SUBJECT_BYTES: Final = 5_000
MAX_FILENAME_BYTES: Final = 200
"""Bytes of an attachment's name that are shown."""


@dataclass
class DryRun:
    """What a dry run found."""

    rejected: list[RejectedRecipient] = field(default_factory=list)
    sizes: SizesOut = field(default_factory=lambda: SizesOut(smallest=0, average=0, largest=0, total=0))
    """Bytes of the letters as Google would get them, attachments included."""
    samples: list[SampleOut] = field(default_factory=list)


def dry_run(parsed: ParsedJob, *, renderer: ThreadRenderer) -> DryRun:
    """Make every letter of a job.

    Raises:
        ApiError: 422, it takes too long.
        RendererError: nothing can be rendered now.
    """
    within = CheckTime(DRY_RUN_TIMEOUT, renderer, total=parsed.total)
    found, sizes = DryRun(), list[int]()
    attached = Counter[int | None]()
    """Bytes that the attachments of single recipients, and of all (None), take up."""
    for each in parsed.job.attachments:
        attached[each.recipient] += encoded_sizes([each])
    good = [(seq, it) for seq, it in enumerate(parsed.job.recipients) if it.error is None]
    for start in range(0, len(good), BATCH):
        batch = good[start : start + BATCH]
        made = _rendered(parsed, batch, renderer, within)
        for (seq, recipient), content in zip(batch, made, strict=True):
            try:
                size = _size(parsed, recipient, seq, content, attached=attached[None] + attached[seq])
            except ValueError as error:
                found.rejected.append(RejectedRecipient(seq, recipient.email, cut(str(error))))
                continue
            sizes.append(size)
            if len(found.samples) < MAX_SAMPLES and isinstance(content, Content):
                found.samples.append(_sample(parsed, seq, recipient, content, size))
    if sizes:
        total = sum(sizes)
        found.sizes = SizesOut(smallest=min(sizes), average=total // len(sizes), largest=max(sizes), total=total)
    return found


def _rendered(
    parsed: ParsedJob, batch: list[tuple[int, NewRecipient]], renderer: ThreadRenderer, within: CheckTime
) -> list[Rendered]:
    readers = [
        RecipientData(each.email, each.name, each.variables, unsubscribe_link(parsed.envelope)) for _, each in batch
    ]
    within.require(batch[0][0])
    made = within.wait_for(renderer.start(parsed.template, readers, content=True), done=batch[0][0])
    stopped = [str(each[0]) for each in made if isinstance(each, list) and each[0].bound]
    if len(stopped) >= MAX_STOPPED:
        raise stopped_too_often(stopped[0])
    return made


def _size(parsed: ParsedJob, recipient: NewRecipient, seq: int, content: Rendered, *, attached: int) -> int:
    """Bytes of a letter.

    Raises:
        ValueError: it cannot be made, or is larger than Google takes.
    """
    if not isinstance(content, Content):
        raise ValueError(str(content[0]))  # noqa: TRY004 - the letter is wrong, not the program
    return letter_size(
        content, parsed.envelope, email=recipient.email, name=recipient.name, index=seq, attached=attached
    )


def _sample(parsed: ParsedJob, seq: int, recipient: NewRecipient, content: Content, size: int) -> SampleOut:
    return SampleOut(
        index=seq,
        email=recipient.email,
        subject=shortened(content.subject, most=MAX_SUBJECT_BYTES),
        html=content.html and shortened(content.html, most=MAX_SAMPLE_BYTES),
        text=shortened(content.text, most=MAX_SAMPLE_BYTES),
        bytes=size,
        attachments=[
            shortened(each.filename, most=MAX_FILENAME_BYTES)
            for each in parsed.job.attachments
            if each.recipient in {None, seq}
        ],
    )
