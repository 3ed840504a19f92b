"""Every operation of the API as a method: nouns read, verbs change.

`clients.py` names each once more.
"""

import os
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import date, datetime
from typing import Any, Final, Literal, Unpack
from urllib.parse import quote
from uuid import uuid4

from mailerd.client.answers import (
    AcceptedJob,
    AcceptedMessage,
    BounceKind,
    Cancelled,
    DryRun,
    Event,
    EventsPage,
    Job,
    JobActionResult,
    JobActions,
    JobChanged,
    KeyDetails,
    MailingList,
    MailingLists,
    MessageContent,
    NewJob,
    NewJobFields,
    NewMessage,
    NewSenderLimits,
    NewSuppression,
    NewTemplateVersion,
    NewWebhook,
    NewWebhookFields,
    OneMessage,
    PersonsMessage,
    PublishedTemplate,
    Recipient,
    RecipientHistory,
    Removed,
    RemovedSuppression,
    RenderedTemplate,
    Replayed,
    RetryOnly,
    RotatedSecret,
    SavedTemplate,
    SearchResult,
    Sender,
    SenderChanged,
    Settled,
    Stats,
    Suppressed,
    Suppression,
    Templates,
    TemplateState,
    Webhook,
    WebhookDelivery,
    Webhooks,
    WebhookTested,
)
from mailerd.client.exchange import CSV, Call, Exchange, to_json, with_query

POLL_INTERVAL: Final = 2.0
"""Seconds between two looks at a job that is waited for."""
_JOBS: Final = "/api/jobs"
_POST: Final = f"{_JOBS}/send_template_emails"
_OPEN: Final = ("waiting", "sending", "unsure")
_PAGE: Final = 1000
_SMALL_PAGE: Final = 100
"""Of what the API says at length: jobs and senders."""


class Calls(Exchange):
    """Every call."""

    # Posts.

    async def create_job(self, job: NewJob, *, idempotency_key: str | None = None) -> AcceptedJob:
        """Post a job: once, however often the post has to be repeated.

        `idempotency_key`: one of your own, such as an order's number, holds beyond this call;
        without it one is made.
        """
        return await self._send(Call("POST", _POST, to_json(job), idempotency_key or str(uuid4())))

    async def dry_run(self, job: NewJob) -> DryRun:
        """What a post would be answered; every message is rendered, and nothing is stored."""
        return await self._send(Call("POST", f"{_POST}/dry_run", to_json(job)))

    async def test_job(
        self,
        job: NewJob,
        to: Sequence[str],
        *,
        indexes: Sequence[int] = (0,),
        idempotency_key: str | None = None,
    ) -> AcceptedJob:
        """Send a job as these of its recipients would get it to other addresses, such as your
        own.
        """
        body = to_json({"job": job, "to": [*to], "indexes": [*indexes]})
        return await self._send(
            Call("POST", f"{_POST}/test", body, idempotency_key or str(uuid4()))
        )

    async def send_message(
        self, message: NewMessage, *, idempotency_key: str | None = None
    ) -> AcceptedMessage:
        """Post one message, as `create_job` posts a job.

        Its `subject`, `html` and `text` are sent as they are.
        """
        return await self._send(
            Call("POST", "/api/messages", to_json(message), idempotency_key or str(uuid4()))
        )

    async def message(self, job_id: str) -> OneMessage:
        """A message that was posted by `send_message`, and its job."""
        return await self._send(Call("GET", f"/api/messages/{_quoted(job_id)}"))

    # Jobs.

    def jobs(
        self,
        *,
        status: str | None = None,
        sender_email: str | None = None,
        reference: str | None = None,
        tag: str | None = None,
        created_from: str | datetime | None = None,
        created_before: str | datetime | None = None,
    ) -> AsyncGenerator[Job, None]:
        """Jobs, newest first, fetched page by page."""
        return self._pages(
            _JOBS,
            "jobs",
            _SMALL_PAGE,
            status=status,
            sender_email=sender_email,
            reference=reference,
            tag=tag,
            created_from=_text(created_from),
            created_before=_text(created_before),
        )

    async def job(self, job_id: str) -> Job:
        """A job and its counts."""
        return await self._send(Call("GET", _job(job_id)))

    def recipients(
        self,
        job_id: str,
        *,
        status: str | None = None,
        email: str | None = None,
        result: str | None = None,
        outcome: str | None = None,
    ) -> AsyncGenerator[Recipient, None]:
        """A job's recipients in the order of the post, fetched page by page."""
        path = f"{_job(job_id)}/recipients"
        return self._pages(
            path, "recipients", _PAGE, status=status, email=email, result=result, outcome=outcome
        )

    async def results_csv(
        self,
        job_id: str,
        file: str | os.PathLike[str],
        *,
        status: str | None = None,
        outcome: str | None = None,
    ) -> None:
        """Write a job's recipients to a file, as CSV. The file is there once it is whole."""
        query = with_query(f"{_job(job_id)}/results.csv", status=status, outcome=outcome)
        await self._download(Call("GET", query, kind=CSV), file)

    async def actions(self, job_id: str) -> JobActions:
        """Who requested what of a job, and when; newest first."""
        return await self._send(Call("GET", f"{_job(job_id)}/actions"))

    def watch(self, job_id: str) -> AsyncGenerator[Job, None]:
        """A job whenever it has changed, until it is finished; without its forecast.

        A broken connection is renewed.
        """
        return self._stream(f"{_job(job_id)}/events", end="finished")

    async def wait_until_finished(self, job_id: str, *, within: float | None = None) -> Job:
        """The job, once nothing of it is open; raises TimeoutError after `within` seconds,
        RuntimeError once closed.
        """
        until = None if within is None else time.monotonic() + within
        while not is_finished(job := await self.job(job_id)):
            if until is not None and time.monotonic() + POLL_INTERVAL > until:
                raise TimeoutError(
                    f"job {job_id} did not finish within {within:g} s: its status is {job['status']}"
                )
            await self._rest(POLL_INTERVAL)
            if self._closed.is_set():
                raise RuntimeError(
                    f"the client was closed before job {job_id} finished: its status is {job['status']}"
                )
        return job

    async def change_job(self, job_id: str, **fields: Unpack[NewJobFields]) -> JobChanged:
        """Change these fields of a job; None: none.

        Its time can be changed until its first message is being sent.
        """
        return await self._send(Call("PATCH", _job(job_id), to_json(fields)))

    async def cancel_job(self, job_id: str) -> JobActionResult:
        """Send nothing more of it, for good."""
        return await self._change(job_id, "cancel")

    async def pause_job(self, job_id: str) -> JobActionResult:
        """Send nothing more of it until it is resumed."""
        return await self._change(job_id, "pause")

    async def resume_job(self, job_id: str) -> JobActionResult:
        """Go on with a paused job."""
        return await self._change(job_id, "resume")

    async def retry_job(
        self, job_id: str, *, only: RetryOnly = "failed", kind: BounceKind | None = None
    ) -> JobActionResult:
        """Try its failed messages anew, look for its unsure ones now, or send bounced ones of a
        `kind` again.
        """
        return await self._change(
            job_id, "retry", **({"only": only} if kind is None else {"only": only, "kind": kind})
        )

    async def set_priority(self, job_id: str, priority: int) -> JobActionResult:
        """Change its priority among the jobs of its sender."""
        return await self._change(job_id, "priority", priority=priority)

    # Messages and people.

    def find_recipients(self, email: str) -> AsyncGenerator[PersonsMessage, None]:
        """One person's messages in all jobs, newest first, fetched page by page."""
        return self._pages("/api/recipients", "recipients", _PAGE, email=email)

    async def recipient(self, recipient_id: int) -> RecipientHistory:
        """One message: its state, its history, bounces and replies."""
        return await self._send(Call("GET", _recipient(recipient_id)))

    async def recipient_message(self, recipient_id: int) -> MessageContent:
        """One message as its recipient reads it, rendered again; nothing is sent."""
        return await self._send(Call("GET", f"{_recipient(recipient_id)}/message"))

    async def settle(
        self, recipient_id: int, *, sent: bool, attempt: int, message_id: str | None = None
    ) -> Settled:
        """Confirm an unsure message as sent or not sent, after looking into the mailbox.

        `attempt`: its `attempts` when you looked. A 409: it is certain now, of another attempt or
        of a call before.
        """
        fields = {"sent": sent, "attempt": attempt} | (
            {"message_id": message_id} if message_id else {}
        )
        return await self._send(Call("POST", f"{_recipient(recipient_id)}/settle", to_json(fields)))

    async def cancel_recipient(self, recipient_id: int) -> Cancelled:
        """Cancel one waiting message; the others of its job are sent."""
        return await self._send(Call("POST", f"{_recipient(recipient_id)}/cancel", to_json({})))

    async def search(self, text: str, *, limit: int | None = None) -> SearchResult:
        """Jobs and people by a part of what you remember of them."""
        return await self._send(Call("GET", with_query("/api/search", q=text, limit=limit)))

    async def stats(
        self,
        *,
        by: Literal["day", "sender", "template", "tag"] = "day",
        first: str | date | None = None,
        last: str | date | None = None,
        zone: str | None = None,
    ) -> Stats:
        """Numbers of the days from `first` to `last` (default: the last 30)."""
        query = {"by": by, "from": _text(first), "to": _text(last), "zone": zone}
        return await self._send(Call("GET", with_query("/api/stats", **query)))

    # Events.

    async def events(
        self, *, after: int = 0, types: Sequence[str] = (), follow: float | None = None
    ) -> AsyncGenerator[Event, None]:
        """What happened behind the event `after`, the oldest first; keep the `id` of the last one
        that you handled.

        `follow`: seconds between two looks for more, until the client is closed; None: end with
        what there is.
        """
        while not self._closed.is_set():
            path = with_query("/api/events", after=after, types=",".join(types), limit=_PAGE)
            page = await self._send(Call[EventsPage]("GET", path))
            for each in page["events"]:
                yield each
            if page["next_after"] == after:
                if follow is None:
                    return
                await self._rest(follow)
            after = page["next_after"]

    def stream_events(
        self, *, after: int = 0, types: Sequence[str] = ()
    ) -> AsyncGenerator[Event, None]:
        """The same as it happens, over one connection, which is renewed where it breaks, until the
        client is closed.
        """
        return self._stream(with_query("/api/events/stream", after=after, types=",".join(types)))

    # Templates.

    async def templates(self) -> Templates:
        """The named templates."""
        return await self._send(Call("GET", "/api/templates"))

    async def template(self, name: str) -> TemplateState:
        """One template: which version of it jobs get."""
        return await self._send(Call("GET", _template(name)))

    async def save_template(self, name: str, template: NewTemplateVersion) -> SavedTemplate:
        """Store a version, which is used once it is published.

        The key needs the permission `templates`.
        """
        return await self._send(Call("PUT", _template(name), to_json(template)))

    async def delete_template(self, name: str) -> dict[str, Any]:
        """Archive a template; jobs that were posted keep it."""
        return await self._send(Call("DELETE", _template(name), gone={"archived": True}))

    async def template_versions(self, name: str) -> dict[str, Any]:
        """The versions of a template, newest first."""
        return await self._send(Call("GET", f"{_template(name)}/versions"))

    async def template_version(self, name: str, version: str) -> dict[str, Any]:
        """One version with its sources."""
        return await self._send(Call("GET", f"{_template(name)}/versions/{_quoted(version)}"))

    async def publish_template(
        self, name: str, version: str, *, expect: str | None
    ) -> PublishedTemplate:
        """Let jobs get a version, if `expect` is the one that they get now; None: they get none."""
        fields = {"version": version, "expect": expect}
        return await self._send(Call("POST", f"{_template(name)}/publish", to_json(fields)))

    async def render_template(
        self,
        name: str,
        *,
        version: str | None = None,
        variables: Mapping[str, Any] | None = None,
        language: str | None = None,
    ) -> RenderedTemplate:
        """A message of a template; without `variables` with its examples. Nothing is sent."""
        fields = {"version": version, "variables": variables, "language": language}
        given = {name: value for name, value in fields.items() if value is not None}
        return await self._send(Call("POST", f"{_template(name)}/render", to_json(given)))

    # Senders, and the key.

    def senders(self) -> AsyncGenerator[Sender, None]:
        """The mailboxes that the key covers, by address, fetched page by page."""
        return self._pages("/api/senders", "senders", _SMALL_PAGE)

    async def sender(self, email: str) -> Sender:
        """A mailbox: what it does, and what is left of its limits."""
        return await self._send(Call("GET", _sender(email)))

    async def pause_sender(
        self, email: str, *, reason: str, seconds: int | None = None
    ) -> SenderChanged:
        """Send nothing from a mailbox for so long, or until it is resumed."""
        fields = {"reason": reason} if seconds is None else {"reason": reason, "for": seconds}
        return await self._send(Call("POST", f"{_sender(email)}/pause", to_json(fields)))

    async def resume_sender(self, email: str) -> SenderChanged:
        """End a pause, whatever its cause."""
        return await self._send(Call("POST", f"{_sender(email)}/resume", to_json({})))

    async def change_sender(self, email: str, **limits: Unpack[NewSenderLimits]) -> SenderChanged:
        """Change these limits of a mailbox; None: the configured one again.

        The key needs the permission `senders`.
        """
        return await self._send(Call("PATCH", _sender(email), to_json(limits)))

    async def key(self) -> KeyDetails:
        """What the key of this client may do."""
        return await self._send(Call("GET", "/api/key"))

    # Suppressions and lists.

    def suppressions(
        self, *, list_name: str | None = None, reason: str | None = None, email: str | None = None
    ) -> AsyncGenerator[Suppression, None]:
        """Suppressed addresses, oldest first, fetched page by page."""
        return self._pages(
            "/api/suppressions", "suppressions", _PAGE, list=list_name, reason=reason, email=email
        )

    async def suppressions_csv(
        self,
        file: str | os.PathLike[str],
        *,
        list_name: str | None = None,
        reason: str | None = None,
    ) -> None:
        """Write all of them to a file, as CSV. The file is there once it is whole."""
        await self._download(
            Call(
                "GET", with_query("/api/suppressions.csv", list=list_name, reason=reason), kind=CSV
            ),
            file,
        )

    async def suppress(self, suppressions: Sequence[NewSuppression]) -> Suppressed:
        """Suppress addresses: all of them, or none."""
        return await self._send(
            Call("POST", "/api/suppressions", to_json({"suppressions": [*suppressions]}))
        )

    async def unsuppress(self, email: str, *, list_name: str | None = None) -> RemovedSuppression:
        """Remove what keeps the messages of a list, or all, from an address, as far as the key may.

        A 404: there is none. In a repetition of this call, after no answer, it counts as removed.
        """
        path = with_query(f"/api/suppressions/{_quoted(email)}", list=list_name)
        gone = RemovedSuppression(removed=True, still_suppressed=None)
        return await self._send(Call("DELETE", path, gone=gone))

    async def lists(self) -> MailingLists:
        """The mailing lists that a person can leave."""
        return await self._send(Call("GET", "/api/lists"))

    async def save_list(self, name: str, *, title: str | None = None) -> MailingList:
        """Create a list, or change its title."""
        return await self._send(Call("POST", "/api/lists", to_json({"name": name, "title": title})))

    # Webhooks.

    async def webhooks(self) -> Webhooks:
        """The endpoints that events are posted to, by name."""
        return await self._send(Call("GET", "/api/webhooks"))

    async def create_webhook(
        self,
        name: str,
        url: str,
        *,
        types: Sequence[str] | None = None,
        senders: Sequence[str] | None = None,
    ) -> NewWebhook:
        """Add an endpoint.

        It is not repeated where no answer came: the signing secret is in the first one only.
        """
        fields = {"name": name, "url": url, "types": types, "senders": senders}
        return await self._send(Call("POST", "/api/webhooks", to_json(fields), repeatable=False))

    async def webhook(self, webhook_id: str) -> Webhook:
        """An endpoint."""
        return await self._send(Call("GET", _webhook(webhook_id)))

    async def change_webhook(self, webhook_id: str, **fields: Unpack[NewWebhookFields]) -> Webhook:
        """Change, pause or resume an endpoint."""
        return await self._send(Call("PATCH", _webhook(webhook_id), to_json(fields)))

    async def delete_webhook(self, webhook_id: str) -> Removed:
        """Remove an endpoint and its waiting deliveries; a 404 as for `unsuppress`."""
        return await self._send(Call("DELETE", _webhook(webhook_id), gone=Removed(removed=True)))

    def webhook_deliveries(
        self, webhook_id: str, *, status: str | None = None
    ) -> AsyncGenerator[WebhookDelivery, None]:
        """An endpoint's deliveries, newest event first, fetched page by page."""
        return self._pages(f"{_webhook(webhook_id)}/deliveries", "deliveries", _PAGE, status=status)

    async def rotate_webhook_secret(
        self, webhook_id: str, *, overlap: int | None = None
    ) -> RotatedSecret:
        """Make a new signing secret.

        It is not repeated where no answer came: a second one would end the old one.
        """
        fields = {} if overlap is None else {"overlap": overlap}
        return await self._send(
            Call("POST", f"{_webhook(webhook_id)}/rotate", to_json(fields), repeatable=False)
        )

    async def test_webhook(self, webhook_id: str) -> WebhookTested:
        """Post a test event now."""
        return await self._send(Call("POST", f"{_webhook(webhook_id)}/test"))

    async def replay_webhook(
        self, webhook_id: str, *, since: str | datetime, only: Literal["all", "failed"] = "all"
    ) -> Replayed:
        """Deliver the events since then again."""
        return await self._send(
            Call("POST", f"{_webhook(webhook_id)}/replay", to_json({"since": since, "only": only}))
        )

    async def _change(self, job_id: str, action: str, **fields: object) -> JobActionResult:
        return await self._send(Call("POST", f"{_job(job_id)}/{action}", to_json(fields)))


def is_finished(job: Job) -> bool:
    """Whether nothing of a job is open any more."""
    return job["finished_at"] is not None and not any(job["counts"].get(state) for state in _OPEN)


def _quoted(text: str) -> str:
    return quote(text, safe="@")


def _job(job_id: str) -> str:
    return f"{_JOBS}/{_quoted(job_id)}"


def _recipient(recipient_id: int) -> str:
    return f"/api/recipients/{recipient_id}"


def _template(name: str) -> str:
    return f"/api/templates/{_quoted(name)}"


def _sender(email: str) -> str:
    return f"/api/senders/{_quoted(email)}"


def _webhook(webhook_id: str) -> str:
    return f"/api/webhooks/{_quoted(webhook_id)}"


def _text(value: str | date | None) -> str | None:
    """A moment or a day as the API reads it."""
    return value.isoformat() if isinstance(value, date) else value
