"""The sandbox Google itself, without a network: who has a mailbox, what was sent, what went wrong
on demand.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from mailerd.sandbox.google import gmail
from mailerd.sandbox.google.accounts import Accounts, Grant, Kind, OAuth
from mailerd.sandbox.google.answers import (
    NAMED,
    Answer,
    Refused,
    forbidden,
    login_required,
    scope_insufficient,
    unauthenticated,
)
from mailerd.sandbox.google.arrivals import Arrivals
from mailerd.sandbox.google.fake_limits import COMPOSE, FakeLimits
from mailerd.sandbox.google.faults import ActiveFault, Fault, Faults
from mailerd.sandbox.google.limits import Limits
from mailerd.sandbox.google.mailbox import IdSequence, Mailbox, Message, is_address
from mailerd.sandbox.google.outbox import OutboxFolder


class Entry(NamedTuple):
    """One request in the log; a tuple because every request makes one, which costs half of a frozen
    dataclass.
    """

    seq: int
    at: float
    method: str
    user: str
    status: int
    """What was answered; 0 when no answer went out."""
    accepted: bool
    """Whether Google did what was asked, whatever it answered."""
    key: str = ""
    draft_id: str = ""
    units: int = 0
    fault: str = ""
    """The kind of the fault that struck, or empty."""


class FakeGoogle:
    """An in-memory Google: mailboxes, tokens, quotas, faults. `serve` puts it on the network.

    `now` is the clock of quotas, tokens and messages, in epoch seconds.
    """

    def __init__(
        self,
        rules: FakeLimits | None = None,
        *,
        now: Callable[[], float] = time.time,
        outbox_dir: Path | str | None = None,
        faults: Iterable[Fault] = (),
    ) -> None:
        self.rules = rules or FakeLimits()
        self.now = now
        self.accounts = Accounts()
        self.faults = Faults(seed=self.rules.seed)
        self.sent: list[Message] = []
        """Every sent message, oldest first."""
        self.undelivered: list[Message] = []
        """Messages that were taken with a 200 and that reach no recipient, oldest first."""
        self.arrivals = Arrivals()
        self.log: deque[Entry] = deque(maxlen=self.rules.log_size)
        """The newest requests, oldest first."""
        self.mailboxes: dict[str, Mailbox] = {}
        self.oauth = OAuth(
            self.accounts,
            now=lambda: self.now(),  # noqa: PLW0108 -- a test may put another clock in later
            lifetime_s=lambda: self.rules.token_lifetime_s,
            mailboxes=self.mailboxes,
        )
        self._folder = OutboxFolder(Path(outbox_dir)) if outbox_dir else None
        self._numbers = IdSequence(started_at=time.time())
        self._seq = count(1)
        self.limits = Limits(lambda: self.rules)
        self._keys: Counter[str] = Counter()
        self._duplicates: set[str] = set()
        for fault in faults:
            self.fault(fault)

    def add_mailbox(
        self,
        email: str,
        *,
        scopes: Sequence[str] = (COMPOSE,),
        kind: Kind = "authorized_user",
        aliases: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Open a mailbox (or, for "@example.com", delegate a domain to a service account); the
        credential file's JSON.

        A second call gives a new credential, makes the former worthless and leaves the mailbox's
        content alone. A service account's `token_uri` is filled in, in this very dict, when the
        server starts. Raises ValueError for what is no address, and for a domain with another kind
        than "service_account".
        """
        owner = email.lower()
        if kind not in ("authorized_user", "service_account"):
            raise ValueError(f"unknown kind {kind!r}")
        if owner.startswith("@") and kind != "service_account":
            raise ValueError("only a service account can speak for a whole domain")
        if not is_address("x" + owner if owner.startswith("@") else owner):
            raise ValueError(f"{email!r} is no address")
        if not owner.startswith("@"):
            self.mailbox(owner).aliases = frozenset(alias.lower() for alias in aliases)
        return self.accounts.issue(owner, scopes=frozenset(scopes), kind=kind).blob

    def mailbox(self, email: str) -> Mailbox:
        """The mailbox of an address, opened when there was none."""
        if email not in self.mailboxes:
            self.mailboxes[email] = Mailbox(
                email, self._numbers, history_id=self._numbers.history()
            )
        return self.mailboxes[email]

    def drafts(self, sender: str = "") -> list[Message]:
        """The drafts of one mailbox, or of all, oldest first."""
        boxes = [self.mailboxes[sender.lower()]] if sender else self.mailboxes.values()
        return [draft for box in boxes for draft in box.drafts.values()]

    def fault(self, fault: Fault) -> ActiveFault:
        """Put a fault in force; the result counts how often it has struck."""
        return self.faults.add(fault)

    def clear_faults(self) -> None:
        """Lift all faults."""
        self.faults.clear()

    def revoke(self, email: str) -> None:
        """End the mailbox's refresh tokens and access tokens.

        Raises KeyError for one that has none.
        """
        self.accounts.revoke(email)

    def restore(self, email: str) -> None:
        """Make the mailbox's refresh tokens good again. Raises KeyError for one that has none."""
        self.accounts.restore(email)

    def set_scopes(self, email: str, scopes: Sequence[str]) -> None:
        """Change what the mailbox's credentials allow, at once.

        Raises KeyError for one that has none.
        """
        self.accounts.set_scopes(email, frozenset(scopes))

    def change_rules(self, **changes: Any) -> FakeLimits:
        """Change some rules while it runs; a rule unknown raises TypeError."""
        self.rules = replace(self.rules, **changes)
        return self.rules

    def reset(self) -> None:
        """Forget messages, drafts, quotas, faults and the log; mailboxes and credentials stay."""
        self.faults.clear()
        self.sent.clear()
        self.undelivered.clear()
        self.arrivals.clear()
        self.log.clear()
        self._keys.clear()
        self._duplicates.clear()
        self.limits.reset()
        for email, box in self.mailboxes.items():
            self.mailboxes[email] = Mailbox(email, self._numbers, box.aliases)

    def close(self) -> None:
        """Have every message on disk that should be there. Raises OSError when that failed."""
        if self._folder:
            self._folder.close()

    def duplicates(self) -> dict[str, int]:
        """The X-Mailerd-Key values that were sent more than once, and how often."""
        return {key: self._keys[key] for key in sorted(self._duplicates)}

    def usage(self) -> dict[str, Any]:
        """What was used of the allowances: for each mailbox and for the project.

        Times are epoch seconds.
        """
        now = self.now()
        users = {email: self.limits.of(box, now=now) for email, box in self.mailboxes.items()}
        return {
            "users": users,
            "project": self.limits.project(now=now),
            "throttled": sum(sum(user["throttled"].values()) for user in users.values()),
            "sent": len(self.sent),
            "duplicates": self.duplicates(),
        }

    def authenticate(self, authorization: str | None, *, user: str) -> tuple[Grant, Mailbox]:
        """Whose request it is.

        Raises Refused with Google's 401, or 403 for another person's mailbox.
        """
        if not authorization:
            raise Refused(login_required())
        scheme, _, token = authorization.partition(" ")
        grant = (
            self.accounts.check(token.strip(), now=self.now())
            if scheme.lower() == "bearer"
            else None
        )
        if grant is None:
            raise Refused(unauthenticated())
        if not grant.email:
            # A service account that names no subject has no Gmail of its own.
            raise Refused(NAMED["precondition_failed"](0))
        if user != "me" and user.lower() != grant.email:
            raise Refused(forbidden(f"Delegation denied for {grant.email}"))
        return grant, self.mailbox(grant.email)

    def perform(self, call: gmail.Call) -> Answer:
        """Carry out a call: scopes, then quota, then the method itself."""
        call.now = self.now()
        self.arrivals.deliver(call.mailbox, now=call.now)
        method = call.route.method
        if call.scopes.isdisjoint(method.scopes):
            return scope_insufficient(sorted(method.scopes))
        try:
            self.limits.charge(call.mailbox, method.units, now=call.now)
            call.units = method.units
            return gmail.perform(call)
        except Refused as refused:
            return refused.answer

    def record_sent(self, message: Message) -> None:
        """Put a message into the outbox, or give it back as Google does with what is above a
        limit.
        """
        box, late = self.mailboxes[message.sender], self.rules.late_per_day
        if late and box.usage.delivered.used(self.now()) >= late:
            self.not_delivered(message)
            return
        box.usage.delivered.add(1, now=self.now())
        self.arrivals.by_rule(message, self.rules, now=self.now())
        self.sent.append(message)
        self.mailboxes[message.sender].usage.sent += 1
        if message.key:
            self._keys[message.key] += 1
            if self._keys[message.key] > 1:
                self._duplicates.add(message.key)
        if self._folder:
            self._folder.put(message)
        keep = self.rules.keep_raw
        if keep and len(self.sent) > keep:
            self._forget_body(len(self.sent) - keep - 1)

    def send_manually(self, email: str, to: str, *, after: Message | None = None) -> Message | None:
        """Send a message as the person does in Gmail; None where the day has no room.

        KeyError: no such mailbox.

        `after`: in the conversation of that message, as an answer to what stands last in it.
        """
        box, now = self.mailboxes[email], self.now()
        thread, head = (
            after.thread_id if after else "",
            f"From: {email}\r\nTo: {to}\r\nSubject: by hand\r\n",
        )
        if after:
            last = box.messages[box.threads[thread][-1]].message_id
            head += f"In-Reply-To: {last}\r\nReferences: {after.message_id} {last}\r\n"
        raw = f"{head}\r\nHello\r\n".encode()
        try:
            message = box.send(
                raw,
                thread_id=thread,
                now=now,
                permit=lambda it: self.limits.permit_sending(box, it.recipients, now=now),
            )
        except Refused:
            return None
        box.usage.delivered.add(1, now=now)
        return message

    def not_delivered(self, message: Message) -> None:
        """Keep a message back that was taken with a 200: it stands in the mailbox, and a limit
        notice follows.
        """
        self.undelivered.append(message)
        self.arrivals.add(message, "limit", due=self.now() + self.rules.notice_delay_s)

    def note(self, method: str, *, user: str, status: int, accepted: bool, **known: Any) -> None:
        """Write a request into the log; `known`: what else there is to say of it, as `Entry` names
        it.
        """
        self.log.append(Entry(next(self._seq), self.now(), method, user, status, accepted, **known))

    def _forget_body(self, index: int) -> None:
        old = self.sent[index]
        shorter = old._replace(raw=old.head + b"\r\n\r\n")
        self.sent[index] = shorter
        messages = self.mailboxes[old.sender].messages
        if old.id in messages:
            messages[old.id] = shorter
