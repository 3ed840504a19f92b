"""`POST /api/jobs/send_template_emails`: reads, checks and stores a job, answers 200 once it is
durable; dry runs.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from typing import Final

from aiohttp import web

from mailerd.clock import Clock
from mailerd.config import IntakeSettings, Live
from mailerd.core.extras import NO_EXTRAS, read_metadata
from mailerd.core.i18n import t
from mailerd.core.states import JobType
from mailerd.core.suppression import DEAD_TOKEN, Reason, why_suppressed
from mailerd.errors import DatabaseError
from mailerd.events.intake import IntakeEvents
from mailerd.http.auth import KeyShares
from mailerd.http.errors import ApiError, FieldError, cut, invalid
from mailerd.http.requests import BodyReader
from mailerd.http.responses import REQUEST, away, json_response, json_size, shortened, to_json
from mailerd.intake import check_copies
from mailerd.intake.check_copies import CheckedCopies
from mailerd.intake.check_recipients import Messages, RejectedRecipient, stopped_too_often
from mailerd.intake.check_time import CheckTime
from mailerd.intake.job_reader import JobReader
from mailerd.intake.job_reader_child import RecipientRow
from mailerd.intake.message_size import encoded_sizes, message_size
from mailerd.intake.parse_job import ParsedJob, parse_job
from mailerd.intake.response_models import (
    AcceptedMessageOut,
    AcceptedOut,
    DryRunOut,
    ForecastOut,
    RejectedOut,
    SampleOut,
    SizesOut,
    SuppressedCopyOut,
    TemplateVersionOut,
    try_forecast,
)
from mailerd.intake.sender_resolver import SenderResolver
from mailerd.locale import speak
from mailerd.mail.renderer import MAX_STOPPED, Rendered, Renderer
from mailerd.mail.template_library import TemplateLibrary
from mailerd.mail.templates import Content
from mailerd.model.suppressions import MailingList
from mailerd.store.db.connection import rfc3339
from mailerd.store.db.database import Database
from mailerd.store.queue.rate_limits import DefaultLimits, day_of
from mailerd.store.read.forecast_inputs import ForecastReader
from mailerd.store.write.api_keys import ApiKey, Permission
from mailerd.store.write.idempotency import (
    DuplicateKeyError,
    IdempotencyKey,
    IdempotencyStore,
    StoredResponse,
)
from mailerd.store.write.list_names import ListNameError
from mailerd.store.write.new_jobs import NewJob, NewJobs, NewRecipient, StoredJob
from mailerd.store.write.secrets import AddressDigests, Secrets
from mailerd.store.write.suppressions import Suppressions

# A dry run: renders every message as it would be sent, checks its size, and stores nothing.

DRY_RUN_TIMEOUT: Final = 60.0
"""Seconds for all messages of a dry run; 10,000 plain ones take about two."""
BATCH: Final = 50
"""Messages that are in memory at once."""
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
    sizes: SizesOut = field(
        default_factory=lambda: SizesOut(smallest=0, average=0, largest=0, total=0)
    )
    """Bytes of the messages as Google would get them, attachments included."""
    samples: list[SampleOut] = field(default_factory=list)


async def dry_run(parsed: ParsedJob, *, renderer: Renderer, origin: str) -> DryRun:
    """Make every message of a job.

    Raises:
        ApiError: 422, it takes too long.
        RendererError: nothing can be rendered now.
    """
    messages = Messages(parsed.template, renderer, origin)
    within = CheckTime(DRY_RUN_TIMEOUT, cpu=lambda: messages.cpu.seconds, total=parsed.total)
    found, sizes = DryRun(), list[int]()
    attached = Counter[int | None]()
    """Bytes that the attachments of single recipients, and of all (None), take up."""
    for each in parsed.job.attachments:
        attached[each.recipient] += encoded_sizes([each])
    good = [(seq, it) for seq, it in enumerate(parsed.job.recipients) if it.error is None]
    for start in range(0, len(good), BATCH):
        batch = good[start : start + BATCH]
        made = await _rendered(parsed, batch, messages, within)
        sized = await asyncio.to_thread(_sizes, parsed, batch, made, attached)
        for (seq, recipient), content, size in zip(batch, made, sized, strict=True):
            if isinstance(size, str):
                metadata = read_metadata(recipient.extras.metadata)
                found.rejected.append(RejectedRecipient(seq, recipient.email, cut(size), metadata))
                continue
            sizes.append(size)
            if len(found.samples) < MAX_SAMPLES and isinstance(content, Content):
                found.samples.append(_sample(parsed, seq, recipient, content, size))
    if sizes:
        total = sum(sizes)
        found.sizes = SizesOut(
            smallest=min(sizes), average=total // len(sizes), largest=max(sizes), total=total
        )
    return found


async def _rendered(
    parsed: ParsedJob, batch: list[tuple[int, NewRecipient]], messages: Messages, within: CheckTime
) -> list[Rendered]:
    link = parsed.envelope.unsubscribe_url.removesuffix(DEAD_TOKEN)
    readers = [
        RecipientRow(each.email, each.name, each.variables, (), []).reader(link)
        for _, each in batch
    ]
    within.require(batch[0][0])
    made = await within.wait_for(messages.render(readers, content=True), done=batch[0][0])
    stopped = [str(each[0]) for each in made if isinstance(each, list) and each[0].bound]
    if len(stopped) >= MAX_STOPPED:
        raise stopped_too_often(stopped[0])
    return made


def _sizes(
    parsed: ParsedJob,
    batch: list[tuple[int, NewRecipient]],
    made: list[Rendered],
    attached: Mapping[int | None, int],
) -> list[int | str]:
    """Bytes of each message, or why it cannot be made or is larger than Google takes."""
    sizes = list[int | str]()
    for (seq, it), content in zip(batch, made, strict=True):
        if not isinstance(content, Content):
            sizes.append(str(content[0]))
            continue
        size = attached.get(None, 0) + attached.get(seq, 0)
        try:
            size = message_size(
                content,
                parsed.envelope,
                email=it.email,
                name=it.name,
                index=seq,
                attached=size,
                extras=it.extras,
            )
            sizes.append(size)
        except ValueError as error:
            sizes.append(str(error))
    return sizes


def _sample(
    parsed: ParsedJob, seq: int, recipient: NewRecipient, content: Content, size: int
) -> SampleOut:
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


# Opt-outs: who gets nothing is stored as cancelled.

_MANY_MOMENTS: Final = 1_000
"""Different times of the recipients of one job that need no warning."""


class OptOutCheck:
    """What suppressions and the lack of a list mean for a job that is posted.

    `timeout`: seconds that the database gets for an answer. `warn_above`: the most recipients of a
    job without a list that need no warning. `defaults`: the limits of senders that have none of
    their own.
    """

    def __init__(
        self, database: Database, *, timeout: float, warn_above: int, defaults: Live[DefaultLimits]
    ) -> None:
        self._database = database
        self._defaults = defaults
        self._timeout = timeout
        self._warn_above = warn_above
        # A second old at most: the claim and the hand-over look again.
        self._digests = AddressDigests(Secrets(database, timeout=timeout))

    async def mark(self, parsed: ParsedJob, *, key: ApiKey | None) -> ParsedJob:
        """The job with its list, and with what its suppressions say of each recipient and each
        copy.

        `key` None: a person at this machine's terminal, who may do everything. A dry run makes no
        list.

        Raises:
            ApiError: 422, the key may not make the list, or a message counts as more than a day of
            its sender; 403, it
                may not override suppressions.
        """
        job = parsed.job
        if job.override_suppression and key is not None and not key.may(Permission.OVERRIDE):
            raise ApiError(
                403,
                "call_not_allowed",
                t(
                    "key {name!r} may not override suppressions; that needs the permission override",
                    name=key.name,
                ),
            )
        await self._digests.load()
        suppressions = Suppressions(
            self._database, key=self._digests.key, timeout=self._timeout, limited_to=key
        )
        found = await _list_of(parsed, key, suppressions)
        list_id = found.id if found else None
        asked = {each.email for each in job.recipients if each.error is None}
        if copied := _has_copies(job):
            asked |= await asyncio.to_thread(check_copies.addresses, job)
        reasons = await suppressions.binding(asked, list_id=list_id)
        opted_out = len(reasons)
        if job.override_suppression:
            reasons = {address: why for address, why in reasons.items() if why.binds_always}
        rows = (
            await asyncio.to_thread(_marked, job.recipients, reasons) if reasons else job.recipients
        )
        suppressed = [
            RejectedRecipient(
                index, each.email, each.error or "", read_metadata(each.extras.metadata)
            )
            for index, each in enumerate(rows)
            if each.suppressed
        ]
        job = replace(job, recipients=rows, list_id=list_id)
        with_copies, warnings = CheckedCopies(job, ()), [*parsed.warnings]
        if copied:
            with_copies = await self._with_copies(job, reasons)
            warnings += check_copies.warnings(with_copies, repeated=parsed.repeated)
        if parsed.list_name is None and self._warn_above and parsed.total > self._warn_above:
            warnings.append(
                t(
                    "this job has {total:,} recipients and no list, so no recipient can unsubscribe; set `list`, "
                    "unless everyone requested this message",
                    total=parsed.total,
                )
            )
        if (moments := len({each.send_at for each in rows})) > _MANY_MOMENTS:
            warnings.append(
                t(
                    "the recipients of this job have {moments:,} different send_at; with few of them a job is easier "
                    "to follow and to change",
                    moments=moments,
                )
            )
        envelope = parsed.envelope
        if found and envelope.list_headers:
            envelope = replace(
                envelope, list_headers=replace(envelope.list_headers, title=found.shown)
            )
        overridden = opted_out - len(reasons)
        return replace(
            parsed,
            job=with_copies.job,
            envelope=envelope,
            suppressed=suppressed,
            overridden=overridden,
            warnings=warnings,
            suppressed_copies=with_copies.suppressed,
        )

    async def _with_copies(self, job: NewJob, reasons: Mapping[str, Reason]) -> CheckedCopies:
        checked = await asyncio.to_thread(check_copies.check, job, reasons)
        per_day = await self._database.read(
            lambda cursor: day_of(cursor, job.sender_email, self._defaults.now, at=job.send_at),
            what="senders.read_limits",
            bound=self._timeout,
        )
        if (errors := check_copies.too_dear(checked.job, per_day=per_day)).total:
            raise invalid(errors)
        return checked


def _has_copies(job: NewJob) -> bool:
    """Whether a message of the job names a copy."""
    return job.extras.copy_list is not None or any(
        each.extras is not NO_EXTRAS and each.extras.copy_list is not None
        for each in job.recipients
    )


def _marked(
    recipients: Sequence[NewRecipient], reasons: Mapping[str, Reason]
) -> list[NewRecipient]:
    return [
        each._replace(error=why_suppressed(reasons[each.email]), suppressed=True)
        if each.error is None and each.email in reasons
        else each
        for each in recipients
    ]


async def _list_of(
    parsed: ParsedJob, key: ApiKey | None, suppressions: Suppressions
) -> MailingList | None:
    name = parsed.list_name
    if name is None:
        return None
    found = await suppressions.list_named(name)
    if found is not None:
        return found
    if key is not None and not key.may(Permission.SUPPRESS):
        why = t(
            "no list has this name, and this key may not create one; see `mailerd suppress lists`"
        )
        raise invalid([FieldError("list", why)])
    try:
        if not parsed.dry_run:
            return await suppressions.make_list(name)
        await suppressions.require_free(name)
    except ListNameError as error:
        raise invalid([FieldError("list", str(error))]) from None
    return None


# The job itself.

MAX_REJECTED_LISTED: Final = 1000
"""Rejected recipients that one answer lists; all of them are stored as rows."""
MAX_REJECTED_BYTES: Final = 300_000
"""Bytes of that list: JSON writes some characters of addresses and reasons in six bytes each."""
IDEMPOTENCY_KEY: Final = "Idempotency-Key"
REPLAYED: Final = "Idempotency-Replayed"
FORECAST_TIMEOUT: Final = 2.0
"""Seconds that the answer for a stored job waits for its forecast."""
FIRST_ANSWER_TIMEOUT: Final = 1.0
"""Seconds that a repetition waits for the first answer's forecast; after a crash there will be
none.
"""
MAX_KEY: Final = 255
"""Characters of an idempotency key: as long as its column."""
_USABLE: Final = re.compile(rf"[ -~]{{1,{MAX_KEY}}}")


@dataclass(frozen=True)
class CreateJobEndpoint:
    """The endpoint."""

    settings: IntakeSettings
    bodies: BodyReader
    shares: KeyShares
    jobs: NewJobs
    answers: IdempotencyStore
    library: TemplateLibrary
    reader: JobReader
    wake: Callable[[], None]
    forecasts: ForecastReader
    events: IntakeEvents
    clock: Clock
    opt_out: OptOutCheck
    base_url: str
    """Where people reach the public site; empty: nowhere."""
    senders: SenderResolver | None = None

    async def create(self, request: web.Request, key: ApiKey) -> web.Response:
        """Store the job of a request, or repeat the first answer to its idempotency key."""
        return await self._create(request, key, JobType.TEMPLATE)

    async def create_message(self, request: web.Request, key: ApiKey) -> web.Response:
        """The same for one message."""
        return await self._create(request, key, JobType.MESSAGE)

    async def create_test(self, request: web.Request, key: ApiKey) -> web.Response:
        """The same for a job as some of its recipients would get it, to other addresses."""
        return await self._create(request, key, JobType.TEST)

    async def _create(self, request: web.Request, key: ApiKey, type_: JobType) -> web.Response:
        idempotency_key = _idempotency_key(request)
        async with self.shares.posts.place(key), self.bodies.read(request, key) as raw:
            return await self.post(raw, key, idempotency_key, type_)

    async def post(
        self,
        raw: bytearray,
        key: ApiKey,
        idempotency_key: str | None,
        type_: JobType = JobType.TEMPLATE,
    ) -> web.Response:
        """Store the job of a body, for which the key has its places; `raw` is emptied."""
        started = self.clock.monotonic()
        stored = await self._check_and_store(raw, key, idempotency_key, type_)
        return await self._answer(stored, key, started=started)

    async def _check_and_store(
        self, raw: bytearray, key: ApiKey, idempotency_key: str | None, type_: JobType
    ) -> web.Response | tuple[ParsedJob, StoredJob]:
        """The job as it was parsed and as it is stored; an answer where nothing is stored."""
        body = (await asyncio.to_thread(sha256, raw)).digest() if idempotency_key else b""
        # else the same bytes as a job would be a repetition
        if body and type_ is not JobType.TEMPLATE:
            body = sha256(type_.encode() + body).digest()
        if idempotency_key and (known := await self.answers.find(key.id, idempotency_key)):
            return await self._repeat(known, idempotency_key, body=body, key=key)
        async with self.shares.for_check(raw, key):
            parsed = await self._parse(raw, key, type_=type_)
            if parsed.dry_run:
                return await self._dry_run(parsed, key)
        if idempotency_key:
            once = IdempotencyKey(
                key.id,
                idempotency_key,
                body,
                self.answers.keep,
                make_response=lambda *stored: to_json(_accepted(parsed, StoredJob(*stored), None)),
            )
            parsed = replace(parsed, job=replace(parsed.job, once=once))
        try:
            return parsed, await self._store(parsed)
        except DuplicateKeyError as error:  # a request with the same key was stored first
            return await self._repeat(error.stored, idempotency_key or "", body=body, key=key)

    async def _answer(
        self, done: web.Response | tuple[ParsedJob, StoredJob], key: ApiKey, *, started: float
    ) -> web.Response:
        if isinstance(done, web.Response):
            return done
        parsed, stored = done
        self.wake()
        self.events.job_accepted(
            job=parsed.job.id,
            sender=parsed.job.sender_email,
            total=parsed.total,
            accepted=parsed.accepted,
            due=rfc3339(stored.send_at),
            ms=(self.clock.monotonic() - started) * 1000,
            key=key.name,
            request=REQUEST.get(),
        )
        if parsed.job.override_suppression:
            self.events.suppressions_overridden(
                job=parsed.job.id, overridden=parsed.overridden, key=key.name, request=REQUEST.get()
            )
        return await self._accepted(parsed, stored)

    async def dry_run(self, request: web.Request, key: ApiKey) -> web.Response:
        """Tell what a post of this body would be answered; every message is rendered, and nothing
        is stored.
        """
        async with (
            self.shares.posts.place(key),
            self.bodies.read(request, key) as raw,
            self.shares.for_check(raw, key, dry_run=True),
        ):
            return await self._dry_run(await self._parse(raw, key, dry_run=True), key)

    async def _parse(
        self,
        raw: bytearray,
        key: ApiKey,
        *,
        dry_run: bool = False,
        type_: JobType = JobType.TEMPLATE,
    ) -> ParsedJob:
        parsed = await parse_job(
            raw,
            key=key,
            now=self.clock.now(),
            max_recipients=self.settings.max_recipients,
            reader=self.reader,
            origin=_origin(key),
            senders=self.senders,
            library=self.library,
            base_url=self.base_url,
            dry_run=dry_run,
            type_=type_,
        )
        raw.clear()  # rows and body in memory together would be a lot
        return await self.opt_out.mark(parsed, key=key)

    async def _accepted(self, parsed: ParsedJob, stored: StoredJob) -> web.Response:
        """The answer for a job that is stored; a forecast that fails or is late is left out of
        it.
        """
        job, once, forecast = parsed.job, parsed.job.once, None
        try:
            async with asyncio.timeout(FORECAST_TIMEOUT):
                forecast = await try_forecast(
                    self.forecasts.read(job.id), ForecastOut.of, job=job.id, events=self.events
                )
                if once and forecast:
                    whole = to_json(_accepted(parsed, stored, forecast))
                    await self.answers.complete(once.api_key_id, once.key, answer=whole)
        except (DatabaseError, TimeoutError) as error:
            cause = str(error) or t(
                "no response from the database within {forecast_timeout:g} s",
                forecast_timeout=FORECAST_TIMEOUT,
            )
            self.events.forecast_failed(job=job.id, cause=cause)
            forecast = None  # a repetition must get the same answer
        return json_response(_accepted(parsed, stored, forecast))

    async def _repeat(
        self, known: StoredResponse, idempotency_key: str, *, body: bytes, key: ApiKey
    ) -> web.Response:
        if known.request_digest != body:
            raise ApiError(
                409,
                "idempotency_conflict",
                t(
                    "this {idempotency_key} was used at {it} with another body, for job {job_id}; nothing was stored."
                    " Use a new key for a new job",
                    idempotency_key=IDEMPOTENCY_KEY,
                    it=rfc3339(known.created_at),
                    job_id=known.job_id,
                ),
            )
        until = self.clock.monotonic() + FIRST_ANSWER_TIMEOUT
        while not known.final and self.clock.monotonic() < until:  # its forecast is being computed
            await self.clock.sleep(FIRST_ANSWER_TIMEOUT / 20)
            known = await self.answers.find(key.id, idempotency_key) or known
        self.events.job_repeated(job=known.job_id, key=key.name, request=REQUEST.get())
        speak(
            "en"
            # which no header claims: the answer has the language of the first request, whatever that
            # was
        )
        return web.Response(
            text=known.response + "\n", content_type="application/json", headers={REPLAYED: "true"}
        )

    async def _dry_run(self, parsed: ParsedJob, key: ApiKey) -> web.Response:
        job = parsed.job
        found = await dry_run(parsed, renderer=self.reader.renderer, origin=_origin(key))
        rejected = sorted([*parsed.rejected, *found.rejected], key=lambda each: each.index)
        messages = parsed.total - len(rejected) - len(parsed.suppressed)
        now = self.clock.now()
        due = job.due(now)
        send_at = next(iter(due))
        forecast = await try_forecast(
            self.forecasts.for_new_job(
                job.sender_email,
                priority=job.priority,
                messages=messages,
                due=due,
                copies=job.extras.copies,
            ),
            ForecastOut.of,
            job=t("(dry run)"),
            events=self.events,
        )
        listed = _listed(rejected)
        return json_response(
            DryRunOut(
                dry_run=True,
                status="dry_run",
                total=parsed.total,
                accepted=messages,
                rejected=listed,
                rejected_total=len(rejected),
                suppressed=_listed(parsed.suppressed),
                suppressed_total=len(parsed.suppressed),
                suppressed_copies=_listed_copies(parsed),
                post_refused=bool(parsed.refusal),
                warnings=[parsed.refusal, *parsed.warnings] if parsed.refusal else parsed.warnings,
                send_at=send_at if send_at > now else None,
                forecast=forecast or ForecastOut(),
                template=TemplateVersionOut.of(job.template_name, job.template_version),
                message_bytes=found.sizes,
                samples=found.samples,
            )
        )

    async def _store(self, parsed: ParsedJob) -> StoredJob:
        try:
            return await self.jobs.accept(parsed.job)
        except DatabaseError as error:
            if not error.in_doubt:
                raise
            self.events.job_in_doubt(job=parsed.job.id, cause=str(error))
            raise away(
                t(
                    "the database connection was lost during COMMIT: the job may have been stored as {id}. Check GET "
                    "/api/jobs/{id} before posting it again, or post it again with the same {idempotency_key} if it "
                    "had one",
                    id=parsed.job.id,
                    idempotency_key=IDEMPOTENCY_KEY,
                )
            ) from error


def _origin(key: ApiKey) -> str:
    """What the log calls who has posted a job."""
    return f"key {key.name}"


def _idempotency_key(request: web.Request) -> str | None:
    given = request.headers.getall(IDEMPOTENCY_KEY, [])
    if not given:
        return None
    if len(given) > 1 or not _USABLE.fullmatch(given[0]):
        raise invalid(
            [
                FieldError(
                    IDEMPOTENCY_KEY,
                    t("must be given once and have 1 to 255 printable ASCII characters"),
                )
            ]
        )
    return given[0]


def _accepted(
    parsed: ParsedJob, stored: StoredJob, forecast: ForecastOut | None
) -> AcceptedOut | AcceptedMessageOut:
    if parsed.job.type is JobType.MESSAGE:
        why = [each.reason for each in parsed.suppressed]
        return AcceptedMessageOut(
            job_id=parsed.job.id,
            recipient_id=stored.recipient,
            status="suppressed" if why else "queued",
            suppressed_copies=_listed_copies(parsed),
            send_at=stored.send_at,
            warnings=[*parsed.warnings, *why],
            forecast=forecast or ForecastOut(),
        )
    return AcceptedOut(
        job_id=parsed.job.id,
        status="queued",
        total=parsed.total,
        accepted=parsed.accepted,
        rejected=_listed(parsed.rejected),
        rejected_total=len(parsed.rejected),
        suppressed=_listed(parsed.suppressed),
        suppressed_total=len(parsed.suppressed),
        suppressed_copies=_listed_copies(parsed),
        warnings=parsed.warnings,
        send_at=stored.send_at,
        forecast=forecast or ForecastOut(),
    )


def _listed_copies(parsed: ParsedJob) -> list[SuppressedCopyOut]:
    return [
        SuppressedCopyOut.model_validate(each)
        for each in parsed.suppressed_copies[:MAX_REJECTED_LISTED]
    ]


def _listed(rejected: list[RejectedRecipient]) -> list[RejectedOut]:
    """The rejected recipients that the answer has room for."""
    listed, left = list[RejectedOut](), MAX_REJECTED_BYTES
    for each in rejected[:MAX_REJECTED_LISTED]:
        left -= json_size(asdict(each))
        if left < 0:
            break
        listed.append(RejectedOut.model_validate(each))
    return listed
