"""Who asks for an operation, by which surface, and what the operation works with."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Concatenate

from mailerd.clock import Clock
from mailerd.config import Live
from mailerd.config.webhook_settings import WebhookSettings
from mailerd.core.i18n import t
from mailerd.core.owners import Owners
from mailerd.core.reading import Authorization
from mailerd.events.actions import ActionEvents, Via
from mailerd.http.errors import not_allowed
from mailerd.store.db.database import Database
from mailerd.store.queue.rate_limits import DefaultLimits
from mailerd.store.write.api_keys import ApiKey, Permission
from mailerd.store.write.job_actions import JobActions

if TYPE_CHECKING:  # a command takes no place of a key, and does not import the HTTP server
    from mailerd.http.auth import KeyShares


@dataclass(frozen=True)
class Backend:
    """What operations work with, in a daemon or in a command.

    `timeout`: seconds for an answer of the database.
    """

    database: Database
    timeout: float
    webhooks: WebhookSettings
    clock: Clock
    events: ActionEvents
    actions: JobActions
    limits: Live[DefaultLimits]
    """Of senders that have none of their own."""
    aliases: Mapping[str, str]
    """The mailbox behind each of its other addresses."""
    authorization: Callable[[str], Authorization]
    """What is known of a mailbox's authorization; the disk is asked."""
    wake: Callable[[], None] = lambda: None
    """Makes the runner look for work; in a command nothing: the daemons find it in the tables."""
    shares: "KeyShares | None" = None
    """The places of all keys; None: a command, which takes none."""


@dataclass(frozen=True)
class Caller:
    """Who asks. `key` None: a person at this machine, who may do everything."""

    backend: Backend
    via: Via
    actor: str
    """As the log of actions names it."""
    key: ApiKey | None = None

    @property
    def senders(self) -> Owners:
        """Whose things it sees; None: everybody's. What is another's is as good as none."""
        return self.key.senders if self.key else None

    def require(self, permission: Permission) -> None:
        """End the operation unless the caller may ask for it.

        Raises:
            ApiError: 403, it may not.
        """
        if self.key and not self.key.may(permission):
            raise not_allowed(
                t(
                    "Key {key} lacks the {right} permission.",
                    key=self.key.name,
                    right=permission.value,
                )
            )


type _Operation[**Given, Answer] = Callable[Concatenate[Caller, Given], Awaitable[Answer]]


def operation[**Given, Answer](
    permission: Permission,
) -> Callable[[_Operation[Given, Answer]], _Operation[Given, Answer]]:
    """Ask first whether the caller has the permission."""

    def decorate(work: _Operation[Given, Answer]) -> _Operation[Given, Answer]:
        @wraps(work)
        async def carry_out(by: Caller, /, *args: Given.args, **kwargs: Given.kwargs) -> Answer:
            by.require(permission)
            return await work(by, *args, **kwargs)

        return carry_out

    return decorate
