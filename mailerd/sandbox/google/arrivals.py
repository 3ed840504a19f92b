"""What comes into the mailboxes: notices and answers on demand and by rule, and what the person
sends by hand.
"""

import random
from typing import Final, NamedTuple

from mailerd.sandbox.google import notices
from mailerd.sandbox.google.fake_limits import FakeLimits
from mailerd.sandbox.google.mailbox import Mailbox, Message

_BOUNCES: Final = ("hard", "soft", "blocked", "delayed", "exchange", "postfix", "exim", "qmail")
_DEAD: Final = "@dead.example"
_ANSWERS: Final = ("reply", "auto_reply", "reply", "reply_of_other", "auto_reply_zh")


class _Due(NamedTuple):
    at: float
    shape: str
    message: Message


class Arrivals:
    """Messages on their way.

    There is no timer: a mailbox gets what is due whenever a client looks into it.
    """

    def __init__(self) -> None:
        self._due: dict[str, list[_Due]] = {}
        self._about = set[str]()
        self._bounced = self._answered = 0

    def add(self, message: Message, shape: str, *, due: float, about: str = "") -> None:
        """Let mail about a message come at `due`; raises ValueError for a shape that it cannot
        have.

        `about`: the one of its addresses that it is about; else the first.
        """
        message = message._replace(to=about or message.recipients[0])
        notices.write(shape, message)
        self._about.add(message.id)
        self._due.setdefault(message.sender, []).append(_Due(due, shape, message))

    def has_any(self, message: Message) -> bool:
        """Whether any mail about a message came or is on its way."""
        return message.id in self._about

    def by_rule(self, message: Message, rules: FakeLimits, *, now: float) -> None:
        """Draw what becomes of a message that was just sent: by its addresses, since jobs have
        other keys each time.
        """
        for address in message.recipients:
            self._draw(message._replace(to=address), rules, now=now)

    def _draw(self, message: Message, rules: FakeLimits, *, now: float) -> None:
        chance = random.Random(f"{rules.seed} {message.to}")  # noqa: S311 -- to be repeatable
        drawn = chance.random()
        if message.to.endswith(_DEAD) and drawn < rules.dead_share:
            wait = chance.uniform(rules.dead_delay_s / 20, rules.dead_delay_s)
            self.add(message, "hard", due=now + wait)
            return
        if drawn < rules.bounces:
            shape = _BOUNCES[self._bounced % len(_BOUNCES)]
            self._bounced += 1
        elif drawn < rules.bounces + rules.replies:
            shape = _ANSWERS[self._answered % len(_ANSWERS)]
            self._answered += 1
        else:
            return
        self.add(message, shape, due=now + rules.notice_delay_s)

    def deliver(self, box: Mailbox, *, now: float) -> None:
        """Put into a mailbox what is due by now."""
        waiting = self._due.get(box.email)
        if not waiting:
            return
        self._due[box.email] = [it for it in waiting if it.at > now]
        for it in sorted((it for it in waiting if it.at <= now), key=lambda it: it.at):
            arrival = notices.write(it.shape, it.message)
            box.receive(
                arrival.raw, thread_id=it.message.thread_id if arrival.in_thread else "", now=it.at
            )

    def clear(self) -> None:
        """Forget what is on its way."""
        self._due.clear()
        self._about.clear()
