"""Senders: what binds all that a mailbox sends, its pause and its limits.

A mailbox can be changed where it has a job or a row, or is authorized here; another's is as good as
none. A key that names only an alias of it sees it, and cannot change it.
"""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Final, NewType

from mailerd.core.i18n import t
from mailerd.core.reading import Authorization, AuthorizationState
from mailerd.core.reasons import reason as reason_of
from mailerd.core.sender_state import SenderState
from mailerd.http.errors import NOTHING_CHANGED, ApiError
from mailerd.mail.templates import one_name
from mailerd.operations.caller import Caller, operation
from mailerd.operations.inputs import WrongFieldError
from mailerd.store.read.senders import Senders
from mailerd.store.write.api_keys import Permission
from mailerd.store.write.sender_actions import PauseResult, SenderActions, SenderError

MAX_REASON: Final = 200

Mailbox = NewType("Mailbox", str)
"""The address of a mailbox that `find` has found for the caller."""


class UnknownSenderError(SenderError):
    """The caller sees no such sender."""


async def find(by: Caller, given: str, *, before_use: bool = False) -> Mailbox:
    """The mailbox to change, by its own address or by an alias of it.

    `before_use`: a person at this machine may mean one that is neither used nor authorized yet.

    Raises:
        UnknownSenderError: there is none.
        ApiError: 403, the key only names an alias of it.
    """
    email = by.backend.aliases.get(given, given)
    if before_use and by.key is None:
        return Mailbox(email)
    covered_ = await covered(by)
    is_covered = covered_ is None or given in covered_
    if not is_covered or not (await _senders(by).knows(email) or await is_authorized(by, email)):
        raise UnknownSenderError(
            t(
                "unknown sender {sender}: it has no credential file and no job. `mailerd senders list` and "
                "`mailerd auth list` show all mailboxes",
                sender=email,
            )
        )
    if by.key and not by.key.may_send(email):
        why = t(
            "key {name!r} does not name the mailbox {sender_email}; a pause or limit binds all of it",
            name=by.key.name,
            sender_email=email,
        )
        raise ApiError(403, "sender_not_allowed", t(NOTHING_CHANGED, message=why))
    return Mailbox(email)


async def covered(by: Caller) -> dict[str, str] | None:
    """By mailbox that the caller sees: the aliases that its key names instead of it, or ""; None:
    it sees all.
    """
    if by.senders is None:
        return None
    behind = dict[str, list[str]]()
    for name in sorted(by.senders):
        behind.setdefault(by.backend.aliases.get(name, name), []).append(name)
    configured = {box: ", ".join(its) for box, its in behind.items()}
    by_jobs = await _senders(by).mailboxes_of(by.senders)
    return {**by_jobs, **configured, **dict.fromkeys(by.senders, "")}


async def is_authorized(by: Caller, email: str) -> bool:
    """Whether a mailbox has a credential file here; the disk is asked in a thread, and not for
    ever.
    """
    try:
        async with asyncio.timeout(by.backend.timeout):
            known = await asyncio.to_thread(by.backend.authorization, email)
    except TimeoutError:
        known = Authorization()
    return known.state is not AuthorizationState.MISSING


@operation(Permission.CONTROL)
async def pause(
    by: Caller, mailbox: Mailbox, *, lasts: timedelta | None, reason: str
) -> PauseResult:
    """Send nothing for so long, or until it is resumed.

    `reason`: as a person has typed it, or empty.

    Raises:
        WrongFieldError: the reason may be displayed as another one.
    """
    done = await _actions(by).pause(mailbox, lasts=lasts, reason=_reason(reason), actor=by.actor)
    _changed(by, mailbox, "pause", changed=done.changed)
    return done


@operation(Permission.CONTROL)
async def resume(by: Caller, mailbox: Mailbox) -> SenderState | None:
    """End a pause, whatever its cause; the state before.

    None: it was never used, and so never paused.
    """
    try:
        before = await _actions(by).resume(mailbox, actor=by.actor, others=by.senders)
    except SenderError:
        return None
    _changed(by, mailbox, "resume", changed=before.paused)
    return before


@operation(Permission.CONTROL)
async def resume_project(by: Caller, project: str) -> list[str]:
    """End the pause for the quota of a Cloud project; the senders that were paused for it.

    Raises:
        SenderError: no sender uses this project.
    """
    resumed = await _actions(by).resume_project(project, actor=by.actor)
    for email in resumed:
        _changed(by, email, "resume", changed=True)
    return resumed


@operation(Permission.SENDERS)
async def change_limits(
    by: Caller, mailbox: Mailbox, limits: Mapping[str, float | None]
) -> tuple[SenderState, bool]:
    """Change the limits that are given, None: the configured one again.

    How it is now, and whether that is new.

    Raises:
        ReserveError: nothing would be left of its day.
    """
    now, changed = await _actions(by).change(mailbox, limits, actor=by.actor)
    _changed(by, mailbox, "limits", changed=changed)
    return now, changed


def _senders(by: Caller) -> Senders:
    return Senders(by.backend.database, by.backend.limits.now, by.backend.timeout)


def _actions(by: Caller) -> SenderActions:
    return SenderActions(by.backend.database, by.backend.limits.now, by.backend.timeout)


def _reason(given: str) -> str:
    try:
        return one_name(given)[:MAX_REASON] or reason_of("no_reason_given")
    except ValueError as error:
        raise WrongFieldError(t("Reason: {why}", why=str(error))) from None


def _changed(by: Caller, email: str, action: str, *, changed: bool) -> None:
    """What changed nothing is in the log of actions only."""
    if changed:
        by.backend.events.sender_action(
            sender=email, action=action, actor=by.actor, via=by.via.value
        )
        by.backend.wake()
