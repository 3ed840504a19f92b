"""A job as it is to be stored: valid throughout, and not yet in the database."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from mailerd.store.idempotency import IdempotencyKey


class NewRecipient(NamedTuple):
    """One recipient as it is to be stored; `error` says why it is rejected, None means that it is accepted."""

    email: str
    name: str | None
    variables: str | None
    """The recipient's own variables as JSON, None when it has none."""
    error: str | None = None
    suppressed: bool = False
    """The address has opted out: the row is stored as cancelled, and `error` says why."""


@dataclass(frozen=True)
class StoredAttachment:
    """One attachment, for the recipient whose `seq` it names or for all recipients."""

    filename: str
    content_type: str
    content: bytes = field(repr=False)
    digest: bytes = field(repr=False)
    """SHA-256 of the content."""
    content_id: str | None = None
    recipient: int | None = None


@dataclass(frozen=True)
class NewJob:
    """A job that is valid throughout, and not yet stored."""

    id: str
    sender_email: str
    """The mailbox: its credentials, pace and pauses count."""
    subject: str
    recipients: Sequence[NewRecipient] = field(repr=False)
    from_email: str | None = None
    """What From says, when that is an alias of the mailbox."""
    sender_name: str | None = None
    reply_to: str | None = None
    html: str | None = field(default=None, repr=False)
    text: str | None = field(default=None, repr=False)
    variables: str = "{}"
    """The job's variables as JSON."""
    reference: str | None = None
    priority: int = 0
    send_at: datetime | None = None
    """When it is sent, aware; None or a past time means now, by the database's clock."""
    api_key_id: int | None = None
    template_name: str | None = None
    template_version: str | None = None
    inline_css: bool = False
    languages: Sequence["TemplateLanguage"] = field(default=(), repr=False)
    """Further languages of the template; the default one stands in subject, html and text."""
    attachments: Sequence[StoredAttachment] = ()
    once: IdempotencyKey | None = field(default=None, repr=False)
    """The idempotency key that this job uses up."""
    list_id: int | None = None
    """The list that its recipients can leave; None: it has none."""
    on_bounces: str = "pause"
    """Whether it is paused where too much of it comes back: "pause" or "go_on"."""
    override_suppression: bool = False
    """Whether it goes also to addresses that have opted out; never to those of a hard bounce."""


class TemplateLanguage(NamedTuple):
    """A template in one more language."""

    language: str
    subject: str
    html: str | None
    text: str | None
