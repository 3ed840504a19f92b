"""Unsubscribe links and headers: for each letter of a job that has a list, signed with the newest key."""

from typing import Final
from urllib.parse import quote

from mailerd.clock import Clock
from mailerd.core.models import ClaimedRecipient
from mailerd.core.suppression import UnsubscribeToken, make_token
from mailerd.mail.addresses import unsubscribe_mailbox
from mailerd.mail.mime import ListHeaders
from mailerd.store.db.database import Database
from mailerd.store.job_content import JobContent
from mailerd.store.secrets import SecretKeys, Secrets

KEY_INTERVAL: Final = 60.0
"""Seconds after which the keys are read again: a rotation takes effect without a restart."""


class UnsubscribeLinks:
    """Makes links and headers. `base_url`: where people reach the public site; empty: only mailto links are made."""

    def __init__(self, database: Database, *, base_url: str, clock: Clock) -> None:
        self._secrets = Secrets(database, timeout=database.probe_timeout, for_letters=True)
        self._base_url = base_url
        self._clock = clock
        self._keys: SecretKeys | None = None
        self._read_at = 0.0

    async def headers(self, letter: ClaimedRecipient, job: JobContent) -> ListHeaders | None:
        """The headers of a letter; None where its job has no list.

        Raises:
            DatabaseError: the keys cannot be read. The letter is not sent without them.
        """
        if job.list_id is None or job.list_name is None or letter.digest is None:
            return None
        keys = await self._newest_keys()
        token = make_token(
            UnsubscribeToken(job.list_id, letter.id, letter.digest), key_id=keys.newest, key=keys.tokens[keys.newest]
        )
        domain = job.from_email.rpartition("@")[2]
        return ListHeaders(
            url=f"{self._base_url}/u/{token}" if self._base_url else "",
            mailto=f"mailto:{quote(unsubscribe_mailbox(letter.sender), safe='@+')}?subject=u.{token}",
            title=job.list_title or job.list_name,
            list_id=f"{job.list_name.lower().replace('_', '-')}.{domain}",
        )

    async def _newest_keys(self) -> SecretKeys:
        now = self._clock.monotonic()
        if self._keys is None or now - self._read_at > KEY_INTERVAL:
            self._keys, self._read_at = await self._secrets.keys(), now
        return self._keys
