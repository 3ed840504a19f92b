"""The attachments of a new message: parts of its draft, checked as the API checks them, and a field
of its job.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Final

from mailerd.core.i18n import t
from mailerd.http.errors import ApiError
from mailerd.mail.mime import MAX_ATTACHMENTS, MAX_MESSAGE_BYTES, check_filename, check_together
from mailerd.store.write.drafts import Draft, DraftFile
from mailerd.web.frame.services import ConsoleRequest
from mailerd.web.send.draft import drafts
from mailerd.web.send.post_job import Attached

MAX_UPLOAD: Final = MAX_MESSAGE_BYTES * 3 // 4
"""Bytes of files that a form may have: no message carries more of them in base64."""
_MAX_NAME: Final = 100


async def attach(it: ConsoleRequest, draft: Draft, files: Sequence[tuple[str, bytes]]) -> str:
    """Add files to a draft, all of them or none: why not, or ""."""
    most, named = it.services.settings.intake.max_body, list[tuple[DraftFile, bytes]]()

    def check(together: Collection[DraftFile]) -> None:
        if len(together) > MAX_ATTACHMENTS:
            raise ValueError(t("are more than {n}", n=MAX_ATTACHMENTS))
        check_together((each.name, each.size) for each in together)
        if sum(4 * -(-each.size // 3) for each in together) > most:
            raise ValueError(
                t(
                    "make the job larger than {most:,} bytes, the limit of intake.max_body",
                    most=most,
                )
            )

    for given, content in files:
        try:
            name, why = check_filename(given), "" if content else str(t("is empty"))
        except ValueError as error:
            name, why = given, str(error)
        if why:
            return t("{name} {why}. Nothing was attached.", name=name[:_MAX_NAME], why=why)
        digest = (await asyncio.to_thread(sha256, content)).hexdigest()
        named.append((DraftFile(name, len(content), digest), content))
    try:
        if not await drafts(it).attach(draft, named, check):
            it.missing()
    except ValueError as error:
        return t("The attachments {why}. Nothing was attached.", why=str(error))
    return ""


@asynccontextmanager
async def attached(
    it: ConsoleRequest, draft: Draft, files: Collection[DraftFile]
) -> AsyncIterator[list[Attached]]:
    """The attachments: they are read in the key's place for large bodies, which lasts as long.

    Raises:
        ApiError: 429 or 503, there is no place; 409, the draft has others than `files` now.
    """
    if not files:
        yield []
        return
    async with it.services.shares.large_bodies.place(it.key):
        contents = await drafts(it).contents(draft)
        if [each for each, _ in contents] != [*files]:
            raise ApiError(
                409,
                "conflict",
                t("The attachments have changed since the page was loaded. Check them again."),
            )
        found: list[Attached] = [({"filename": each.name}, content) for each, content in contents]
        contents.clear()
        yield found
