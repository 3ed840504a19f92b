"""Which mailbox sends for an address."""

from collections.abc import Mapping
from dataclasses import dataclass

from mailerd.core.i18n import t
from mailerd.core.replies import NoCredentials
from mailerd.gmail import Gmail


@dataclass(frozen=True)
class UnknownSender:
    """No mailbox sends for an address; `why` goes into the answer."""

    why: str


@dataclass(frozen=True)
class SenderResolver:
    """Looks for mailboxes in the credential files and in `gmail.aliases`."""

    gmail: Gmail
    aliases: Mapping[str, str]

    def mailbox_of(self, sender: str) -> str | UnknownSender:
        """The mailbox that sends for an address in lower case.

        It reads files, so it runs in a thread beside the loop. A credential file that cannot be
        used counts all the same: the sender is then paused with that reason, and a pause passes.
        While no mailbox at all is signed in, every address is accepted: the job waits and the log
        says why.
        """
        mailbox = self.aliases.get(sender, sender)
        if (
            not isinstance(self.gmail.credential_file(mailbox), NoCredentials)
            or not self.gmail.credential_owners
        ):
            return mailbox
        if mailbox != sender:
            return UnknownSender(
                t(
                    "is an alias of {mailbox} (gmail.aliases), and that mailbox is not authorized here",
                    mailbox=mailbox,
                )
            )
        return UnknownSender(
            t(
                "is neither a mailbox authorized here nor an alias of one; authorize it (`mailerd auth login`), "
                "or add it to gmail.aliases"
            )
        )

    def knows(self, address: str) -> bool:
        """Whether this server sends from an address; it reads files."""
        address = address.lower()
        return address in self.aliases or not isinstance(
            self.gmail.credential_file(address), NoCredentials
        )
