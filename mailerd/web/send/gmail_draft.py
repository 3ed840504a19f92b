"""New message, step 2: a draft that was written in the sender's Gmail becomes the message; the
draft is only read.
"""

import asyncio
import re
from dataclasses import replace
from hashlib import sha256
from typing import Final

from mailerd.core.i18n import t
from mailerd.mail.copied_draft import DraftNotCopiedError
from mailerd.mail.templates import RendererError
from mailerd.rate_limited_gmail import DraftsUnreadableError, PersonalDraft
from mailerd.store.write.drafts import COPY, Draft
from mailerd.web.frame.services import ConsoleRequest
from mailerd.web.send.draft import drafts, save

GOOGLE_TIMEOUT: Final = 10.0
"""Seconds for all that Google is asked."""
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")


async def list_drafts(it: ConsoleRequest, draft: Draft) -> tuple[list[PersonalDraft] | None, str]:
    """The newest drafts of the sender, or why there are none to see."""
    try:
        mailbox = _mailbox(it, draft.message.get("sender", ""))
        async with it.services.shares.posts.place(it.key), asyncio.timeout(GOOGLE_TIMEOUT):
            return await it.services.personal_drafts.newest(mailbox), ""
    except DraftsUnreadableError as error:
        return None, str(error)
    except TimeoutError:
        return None, _late()


async def copy_draft(it: ConsoleRequest, draft: Draft, chosen: str) -> str:
    """Copy a draft of the sender into the message; "", or why nothing was copied."""
    before = draft.message.get("gmail", {})
    sender = before["sender"] if chosen == before.get("id") else draft.message.get("sender", "")
    if not _ID.fullmatch(chosen):
        it.missing()
    try:
        mailbox = _mailbox(it, sender)
        async with it.services.shares.posts.place(it.key):
            async with asyncio.timeout(GOOGLE_TIMEOUT):
                raw = await it.services.personal_drafts.read(mailbox, chosen)
            copied = await it.services.copier.copy(raw, origin=f"key {it.key.name}")
    except TimeoutError:
        return _late()
    except (DraftsUnreadableError, RendererError) as error:
        return str(error)
    except DraftNotCopiedError as error:
        return t("Nothing was copied: {why}.", why=str(error))
    packed = copied.pack()
    version = (await asyncio.to_thread(sha256, packed)).hexdigest()[:16]
    about = {
        "id": chosen,
        "sender": sender,
        "subject": copied.subject,
        "left_out": copied.left_out,
        "version": version,
    }
    # another request may have saved it meanwhile
    now = await drafts(it).find(it.key.id, draft.id) or it.missing()
    message = {name: value for name, value in now.message.items() if name != "tested"}
    await save(
        it,
        replace(now, message={**message, "kind": "gmail", "gmail": about}),
        {COPY: packed},
        only=["message"],
    )
    return ""


def _mailbox(it: ConsoleRequest, sender: str) -> str:
    """The mailbox of a sender, if the key may send from it: a key that may use an alias alone sees
    none of its drafts.

    Raises:
        DraftsUnreadableError: it may not.
    """
    sender = sender.lower()
    mailbox = it.services.settings.gmail.aliases.get(sender, sender)
    if not sender:
        raise DraftsUnreadableError(t("Choose a sender."))
    if not (it.key.may_send(sender) and it.key.may_send(mailbox)):
        raise DraftsUnreadableError(
            t("Key {key} may not read the drafts of {email}.", key=it.key.name, email=sender)
        )
    return mailbox


def _late() -> str:
    return t(
        "Google did not respond within {n:g} s. Nothing was changed. Try again.", n=GOOGLE_TIMEOUT
    )
