"""Examines Google and every mailbox: sign-in, scopes, whose account it is, and which delivery mode
that makes.
"""

import asyncio
from email.utils import parsedate_to_datetime
from shlex import quote
from typing import Final

from mailerd.cli.checks.clocks import Clocks
from mailerd.cli.checks.database import Shown, name_of
from mailerd.cli.checks.result import CheckResult, Level, fail, halves, ok, warn
from mailerd.clock import Clock
from mailerd.config import GmailSettings
from mailerd.core.failing_attempts import GOOGLE_SILENT, GOOGLE_UNREACHABLE
from mailerd.core.i18n import t
from mailerd.core.pauses import repair_command
from mailerd.core.reading import INCIDENT
from mailerd.core.reasons import cause_code, same_cause
from mailerd.core.replies import (
    Accepted,
    Call,
    NoCredentials,
    NoResponse,
    NotSent,
    Refused,
    Reply,
    WrongMailbox,
)
from mailerd.core.verdicts import PauseCause, Verdict, judge
from mailerd.events.worker import GmailEvents
from mailerd.gmail import Gmail, Mailbox
from mailerd.gmail.credentials import Entry, inventory

CALL_TIMEOUT: Final = 4.0
"""Seconds for one call; a mailbox takes two."""
_AT_ONCE: Final = 10
_PASSING: Final = {
    PauseCause.THROTTLED,
    PauseCause.DAILY_LIMIT,
    PauseCause.TOO_MANY_CONCURRENT,
    PauseCause.PROJECT_LIMIT,
}


async def examine(
    settings: GmailSettings,
    *,
    clock: Clock,
    clocks: Clocks,
    events: GmailEvents,
    shown: asyncio.Future[Shown],
    named: str = "",
) -> list[CheckResult]:
    """The findings; `shown`: what the database knows, and what is said of its senders already.

    They try a domain's key, and so does `named`, which is one more.
    """
    entries = inventory(settings)
    bounded = settings.model_copy(
        update={"request_timeout": min(CALL_TIMEOUT, settings.request_timeout)}
    )
    async with (
        Gmail(bounded, events=events, concurrency=_AT_ONCE) as google,
        asyncio.TaskGroup() as tasks,
    ):
        greeting = tasks.create_task(
            _greet(google, settings, clock=clock, clocks=clocks, shown=shown)
        )
        examiner = _Examiner(google, settings, named=named, shown=shown, greeting=greeting)
        looks = [tasks.create_task(examiner.entry(each)) for each in entries]
        missing = google.credential_file(named) if named else None
        aliases = tasks.create_task(examiner.aliases())
    found = [
        *greeting.result(),
        *(finding for look in looks for finding in look.result()),
        *aliases.result(),
    ]
    if isinstance(missing, NoCredentials) and named not in settings.aliases:
        found.append(_unusable(named, missing.cause))
    waiting = [
        each for each, waits in sorted((await shown).waits.items()) if waits and each != named
    ]
    found += [
        _told_already(each, judge(Call.TOKEN, lacks), await shown) or _unusable(each, lacks.cause)
        for each in waiting
        if isinstance(lacks := google.credential_file(each), NoCredentials)
    ]
    if not entries:
        found.append(
            fail(
                t("mailboxes"),
                t(
                    "no credential file in {credentials_dir}",
                    credentials_dir=settings.credentials_dir,
                ),
                remedy=t(
                    "mailerd auth login --sender me@example.com, or put a service account's key there"
                ),
            )
        )
    return found


async def _greet(
    google: Gmail,
    settings: GmailSettings,
    *,
    clock: Clock,
    clocks: Clocks,
    shown: asyncio.Future[Shown],
) -> list[CheckResult]:
    answer = await google.ping()
    ours = clock.now()
    if isinstance(answer, NotSent | NoResponse):
        what = t("{api_root} unreachable: {cause}", api_root=settings.api_root, cause=answer.cause)
        if known := (await shown).tells(("google_unreachable", "google_silent")):
            return [warn(t("google"), what, remedy=known.remedies[0])]
        remedy = t(
            "check this machine's internet connection: DNS, firewall, gmail.proxy and gmail.api_root"
        )
        return [fail(t("google"), what, remedy=remedy)]
    found = [ok(t("google"), t("{api_root} responds", api_root=settings.api_root))]
    try:
        theirs = parsedate_to_datetime(answer.headers.get("Date", ""))
        # The header has whole seconds, cut off: on average half a second is missing.
        clocks.google = (theirs - ours).total_seconds() + 0.5
    except (ValueError, TypeError):
        remedy = t(
            "something between here and Google responds in its place: check gmail.api_root and any proxy"
        )
        found.append(warn(t("google: clock"), t("Google's response has no date"), remedy=remedy))
    return found


class _Examiner:
    """Looks at mailboxes, a few at a time."""

    def __init__(
        self,
        google: Gmail,
        settings: GmailSettings,
        *,
        named: str,
        shown: asyncio.Future[Shown],
        greeting: asyncio.Task[list[CheckResult]],
    ) -> None:
        self._google = google
        self._settings = settings
        self._named = {named} - {""}
        self._shown = shown
        self._greeting = greeting
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def entry(self, entry: Entry) -> list[CheckResult]:
        """One credential file."""
        if not entry.used:
            return [
                warn(
                    entry.owner,
                    t("{path} {problem}", path=entry.path, problem=halves(entry.problem)[0]),
                    remedy=t("remove one of them"),
                )
            ]
        if entry.problem:
            return [_unusable(entry.owner, entry.problem)]
        if not entry.owner.startswith("@"):
            return [await self._mailbox(entry.owner, kind=entry.kind)]
        senders = sorted(
            each for each in {*(await self._shown).waits, *self._named} if self._by(entry, each)
        )
        if not senders:
            return [
                warn(
                    entry.owner,
                    t(
                        "{path} is valid but not tested: no job has used a mailbox of that domain yet",
                        path=entry.path,
                    ),
                    remedy=f"mailerd check --sender someone{entry.owner}",
                )
            ]
        return list(
            await asyncio.gather(*(self._mailbox(each, kind=entry.kind) for each in senders))
        )

    def _by(self, entry: Entry, sender: str) -> bool:
        """Whether a sender's file is this one."""
        found = self._google.credential_file(sender)
        return not isinstance(found, NoCredentials) and found.path == entry.path

    async def aliases(self) -> list[CheckResult]:
        """The aliases of the settings, as far as they can be seen from here."""
        found = []
        for alias, mailbox in self._settings.aliases.items():
            file = self._google.credential_file(mailbox)
            if isinstance(file, NoCredentials):
                what = t("alias of {mailbox}, which has no credential file", mailbox=mailbox)
                found.append(
                    fail(
                        alias,
                        what,
                        remedy=t(
                            "mailerd auth login --sender {mailbox}, or correct gmail.aliases",
                            mailbox=mailbox,
                        ),
                    )
                )
            else:
                found.append(
                    ok(
                        alias,
                        t(
                            "alias of {mailbox}; unless Gmail has it under Send mail as, Google puts {mailbox} there",
                            mailbox=mailbox,
                        ),
                    )
                )
        return found

    async def _mailbox(self, sender: str, *, kind: str) -> CheckResult:
        async with self._slots:
            box = await self._google.authenticate(sender)
            if not isinstance(box, Mailbox):
                return await self._refused(sender, Call.TOKEN, box, kind=kind)
            profile = await self._google.get_profile(sender) if box.verified else Accepted()
        if not isinstance(profile, Accepted):
            return await self._refused(sender, Call.GET_PROFILE, profile, kind=kind)
        return mode_of(box)

    async def _refused(self, sender: str, call: Call, reply: Reply, *, kind: str) -> CheckResult:
        """See `refused`; what is said elsewhere already is not said again."""
        verdict = judge(call, reply)
        if known := _told_already(sender, verdict, await self._shown):
            return known
        google = (await self._greeting)[0]
        if (
            google.level is not Level.PASS
            and cause_code(verdict.reason) in GOOGLE_UNREACHABLE | GOOGLE_SILENT
        ):
            return warn(sender, t("not tested: Google cannot be reached"), remedy=google.remedy)
        return refused(sender, call, reply, kind=kind)


def mode_of(box: Mailbox) -> CheckResult:
    """The delivery mode, and why it is that one."""
    scopes = ", ".join(each.rpartition("/")[2] or each for each in box.scopes) or "unknown"
    again = t(
        "mailerd auth login --sender {sender} --metadata (asks for gmail.compose)",
        sender=quote(box.sender),
    )
    if box.mode == "draft":
        proof = (
            ""
            if box.can_read_metadata
            else t("; without gmail.metadata, a confirmed message has no Message-ID")
        )
        return ok(
            box.sender,
            t(
                "draft mode (scopes: {scopes}): unconfirmed messages are resolved automatically{proof}",
                scopes=scopes,
                proof=proof,
            ),
        )
    if box.can_read_metadata:
        return ok(
            box.sender,
            t(
                "direct mode (scopes: {scopes}): unconfirmed messages are resolved from the headers of sent mail",
                scopes=scopes,
            ),
        )
    whose = "" if box.verified else t("; this scope cannot verify the mailbox owner")
    return warn(
        box.sender,
        t(
            "direct mode (scopes: {scopes}): unconfirmed messages must be confirmed manually{whose}",
            scopes=scopes,
            whose=whose,
        ),
        remedy=t("optional: {again}", again=again),
    )


def _unusable(owner: str, cause: str) -> CheckResult:
    """A file that cannot serve."""
    what, remedy = halves(cause)
    return fail(owner, what, remedy=remedy or "mailerd auth list")


def _told_already(sender: str, verdict: Verdict, shown: Shown) -> CheckResult | None:
    """A mailbox that cannot be used for a cause that is said of its sender, or of its inbox."""
    cause = verdict.backoff.cause if verdict.backoff else None
    for it in shown.of_mailbox(sender):
        if it.code == cause or same_cause(it.text.fields.get("reason"), verdict.reason):
            return warn(
                sender,
                t("cannot be used now; see {line}", line=name_of(it.about)),
                remedy=it.remedies[0],
            )
    return None


def refused(sender: str, call: Call, reply: Reply, *, kind: str) -> CheckResult:
    """Why a mailbox cannot be used, and what to do."""
    if isinstance(reply, NoCredentials | WrongMailbox):
        return _unusable(sender, reply.cause)
    verdict = judge(call, reply)
    cause = verdict.backoff.cause if verdict.backoff else None
    what = verdict.reason or t("unexpected response to {call}", call=call)
    if cause_code(what) == "google_error":
        client_error = isinstance(reply, Refused) and reply.status < 500  # noqa: PLR2004 - HTTP's server errors
        return (fail if client_error else warn)(sender, what, remedy=INCIDENT)
    if cause in _PASSING:
        return warn(
            sender, what, remedy=t("no action needed; messages wait, and no attempt is counted")
        )
    return fail(sender, what, remedy=_remedy(sender, reply, cause, kind=kind))


def _remedy(sender: str, reply: Reply, cause: PauseCause | None, *, kind: str) -> str:
    if cause is PauseCause.API_DISABLED:
        return t(
            "enable the Gmail API in the Cloud project: {where}",
            where=repair_command(cause, sender=sender),
        )
    if cause is PauseCause.DOMAIN_POLICY:
        return t(
            "ask the domain's administrator to allow this app: {where}",
            where=repair_command(cause, sender=sender),
        )
    if cause is PauseCause.GOOGLE_UNREACHABLE or isinstance(reply, NoResponse):
        return t(
            "check this machine's internet connection: DNS, firewall, gmail.proxy, gmail.token_uri and gmail.api_root"
        )
    if cause is PauseCause.MAILBOX_REFUSED:
        return t(
            "check whether Gmail is enabled for {sender} and which apps are allowed (Admin console)",
            sender=sender,
        )
    if kind == "service_account":
        return t(
            "delegate gmail.compose to the service account's client ID (Admin console, API controls), and check that "
            "the mailbox exists"
        )
    if cause is PauseCause.CLIENT_REFUSED:
        return t(
            "download the OAuth client's JSON again, then mailerd auth login --sender {sender} --client FILE",
            sender=quote(sender),
        )
    return f"mailerd auth login --sender {quote(sender)}"
