"""Which addresses may be sent for: mailboxes that are signed in here, and their aliases."""

from collections.abc import Mapping
from dataclasses import dataclass

from mailerd.core.replies import NoCredentials
from mailerd.gmail import Gmail
from mailerd.intake.resolve_sender import UnknownSender


@dataclass(frozen=True)
class Mailboxes:
    """Which mailbox sends for an address, as far as files and settings say."""

    gmail: Gmail
    aliases: Mapping[str, str]

    def mailbox_of(self, sender: str) -> str | UnknownSender:
        """The mailbox; a file that cannot be used still counts: that is for the sender's pause to say, and passes."""
        mailbox = self.aliases.get(sender, sender)
        if not isinstance(self.gmail.file_of(mailbox), NoCredentials) or not self.gmail.knows_anybody:
            return mailbox  # where nobody is signed in yet, the job waits for its mailbox and the log says so
        if mailbox != sender:
            return UnknownSender(f"is an alias of {mailbox} (gmail.aliases), and that mailbox is not signed in here")
        return UnknownSender(
            "is no mailbox that is signed in here, nor an alias of one: sign it in (`mailerd auth login`), or name the "
            "mailbox that it is an alias of in gmail.aliases"
        )
