"""Jobs with copies as rows, without HTTP; and whom Google has sent a message."""

from collections.abc import Mapping, Sequence

from mailerd.clock import new_id
from mailerd.core.copies import Copy, to_json
from mailerd.core.extras import Extras
from mailerd.core.suppression import Reason
from mailerd.intake import check_copies
from mailerd.sandbox.google.mailbox import Message
from mailerd.store.db.database import Database
from mailerd.store.write.new_jobs import NewJob, NewJobs, NewRecipient

CC, BCC = "desk@example.net", "audit@example.net"
BOTH = [Copy("cc", CC), Copy("bcc", BCC)]


async def post_copied(
    database: Database,
    *messages: tuple[str, Sequence[Copy] | None],
    sender: str = "me@example.com",
    shared: Sequence[Copy] = (),
    suppressed: Mapping[str, Reason] | None = None,
) -> str:
    """A job of messages, each to one address and with copies, None: with those that are `shared`; its id."""
    rows = [
        NewRecipient(to, None, None, extras=Extras(copy_list=None if copies is None else to_json(copies)))
        for to, copies in messages
    ]
    job = NewJob(
        id=new_id(), sender_email=sender, subject="Hello", text="Dear", recipients=rows,
        extras=Extras(copy_list=to_json(shared) if shared else None),
    )  # fmt: skip
    await NewJobs(database, timeout=60.0).accept(check_copies.check(job, suppressed or {}).job)
    return job.id


def addressed(message: Message) -> dict[str, list[str]]:
    """The addresses of a message, by header."""
    headers = message.parsed
    return {
        name: [it.addr_spec for value in headers.get_all(name, []) for it in value.addresses]
        for name in ("to", "cc", "bcc")
    }
