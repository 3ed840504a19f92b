"""One mailbox: its drafts, messages and threads. A sent draft is gone, and every step gives a new Message-ID."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple

from mailerd.sandbox.google.answers import NAMED, Refused, not_found
from mailerd.sandbox.google.letters import Letter, ParsedLetter, read, stamp
from mailerd.sandbox.google.quota import Usage


class IdSequence:
    """Ids as Google makes them: never twice, rising, and higher ones in every run.

    No .eml is overwritten by a later run, and an inbox that was read in a former run has no history that is forgotten.
    """

    def __init__(self, *, started_at: float) -> None:
        first = int(started_at * 1000) << 20
        self._messages = count(first)
        self._histories = count(int(started_at * 1000))

    def message(self) -> str:
        """A message id: 16 hexadecimal digits."""
        return f"{next(self._messages):016x}"

    def draft(self) -> str:
        """A draft id: the letter r and a number."""
        return f"r{next(self._messages)}"

    def message_id(self) -> str:
        """A Message-ID of Google's, which cannot be foretold from the client's."""
        return f"<CAsandbox{next(self._messages):016x}@mail.gmail.com>"

    def history(self) -> int:
        """A history id."""
        return next(self._histories)


class Added(NamedTuple):
    """One entry of the history: a message came into the mailbox."""

    history_id: int
    id: str
    thread_id: str
    labels: tuple[str, ...]


@dataclass(slots=True)
class Mailbox:
    """What one person has at Google."""

    email: str
    numbers: IdSequence = field(repr=False)
    aliases: frozenset[str] = frozenset()
    drafts: dict[str, Letter] = field(default_factory=dict)
    messages: dict[str, Letter] = field(default_factory=dict)
    """Every message by id, oldest first; drafts are among them, as with Google."""
    threads: dict[str, list[str]] = field(default_factory=dict)
    history_id: int = 1
    usage: Usage = field(default_factory=Usage)
    history: list[Added] = field(default_factory=list, repr=False)
    """What came, oldest first."""
    forgotten: int = 0
    """History up to this id is forgotten: who asks from there on gets a 404."""

    def draft(self, raw: bytes, *, thread_id: str, now: float) -> Letter:
        """Create a draft. A missing recipient is no fault yet; a malformed one is."""
        letter = self._written(raw, thread_id=thread_id, now=now, draft_id=self.numbers.draft(), label="DRAFT")
        self.drafts[letter.draft_id] = letter
        self._keep(letter)
        return letter

    def send_draft(self, draft_id: str, *, now: float, permit: Callable[[], None]) -> Letter:
        """Send a draft: it is gone, and a new message stands in its thread. `permit` may raise Refused."""
        draft = self.find_draft(draft_id)
        if not draft.to:
            raise Refused(NAMED["recipient_required"](0))
        permit()
        message_id = self.numbers.message_id()
        sent = draft._replace(
            id=self.numbers.message(),
            message_id=message_id,
            labels=("SENT",),
            history_id=self.numbers.history(),
            at=now,
            raw=draft.raw.replace(draft.message_id.encode("ascii"), message_id.encode("ascii"), 1),
        )
        self.delete_draft(draft_id)
        self._keep(sent)
        return sent

    def send(self, raw: bytes, *, thread_id: str, now: float, permit: Callable[[], None]) -> Letter:
        """Send a letter directly. `permit` may raise Refused."""
        letter = self._written(raw, thread_id=thread_id, now=now, draft_id="", label="SENT")
        if not letter.to:
            raise Refused(NAMED["recipient_required"](0))
        permit()
        self._keep(letter)
        return letter

    def find_draft(self, draft_id: str) -> Letter:
        """The draft, or Refused with Google's 404."""
        if draft_id not in self.drafts:
            raise Refused(not_found())
        return self.drafts[draft_id]

    def delete_draft(self, draft_id: str) -> None:
        """Remove a draft for good, or Refused with Google's 404."""
        draft = self.find_draft(draft_id)
        del self.drafts[draft_id]
        del self.messages[draft.id]
        thread = self.threads[draft.thread_id]
        thread.remove(draft.id)
        if not thread:
            del self.threads[draft.thread_id]
        self.history_id = self.numbers.history()

    def find_message(self, message_id: str) -> Letter:
        """The message, or Refused with Google's 404."""
        if message_id not in self.messages:
            raise Refused(not_found())
        return self.messages[message_id]

    def receive(self, raw: bytes, *, thread_id: str = "", now: float) -> Letter:
        """Take in a message that came by SMTP; into a thread that is not there any more it brings a new one."""
        ident = self.numbers.message()
        letter = Letter(
            id=ident,
            thread_id=thread_id if thread_id in self.threads else ident,
            draft_id="",
            sender=self.email,
            to=self.email,
            key="",
            message_id=self.numbers.message_id(),
            labels=("UNREAD", "CATEGORY_PERSONAL", "INBOX"),  # as under the tab "Primary"
            history_id=self.numbers.history(),
            at=now,
            raw=raw,
        )
        self._keep(letter)
        return letter

    def forget_history(self) -> None:
        """Forget what came until now, as Google does after a week, and sometimes after hours."""
        self.forgotten = self.history_id
        self.history.clear()

    def _written(self, raw: bytes, *, thread_id: str, now: float, draft_id: str, label: str) -> Letter:
        if thread_id and thread_id not in self.threads:
            raise Refused(not_found())
        reading = read(raw)
        message_id, ident = self.numbers.message_id(), self.numbers.message()
        return Letter(
            id=ident,
            thread_id=thread_id or ident,
            draft_id=draft_id,
            sender=self.email,
            to=", ".join(reading.recipients),
            key=reading.key,
            message_id=message_id,
            labels=(label,),
            history_id=self.numbers.history(),
            at=now,
            raw=stamp(raw, reading, message_id=message_id, rewrite_from=self._rewritten_from(reading)),
        )

    def _rewritten_from(self, reading: ParsedLetter) -> str:
        """Google does not refuse a foreign From: it puts the mailbox's own address there."""
        # A second From, as an injection would bring it, is left where it is: tests shall see it.
        own = reading.sender == self.email or reading.sender in self.aliases
        return "" if own else self.email

    def _keep(self, letter: Letter) -> None:
        self.messages[letter.id] = letter
        self.threads.setdefault(letter.thread_id, []).append(letter.id)
        self.history_id = letter.history_id
        self.history.append(Added(letter.history_id, letter.id, letter.thread_id, letter.labels))
