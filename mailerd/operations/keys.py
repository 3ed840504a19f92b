"""API keys: who may do what.

A key without limits creates, replaces and revokes keys; a limited one sees itself.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from mailerd.core.i18n import t
from mailerd.http.errors import not_allowed
from mailerd.operations.caller import Caller
from mailerd.store.write.api_keys import ApiKey, ApiKeys, Permission
from mailerd.store.write.webhooks import Webhooks

OVERLAP: Final = timedelta(days=1)
"""For how long the old secret of a replaced key is good, where the caller does not say."""


@dataclass(frozen=True)
class RevokedKey:
    """A key that was revoked."""

    id: int
    webhooks: list[str]
    """The names of the endpoints that it made, which go on."""


async def index(by: Caller) -> list[ApiKey]:
    """Every key that the caller sees, revoked ones too, oldest first."""
    return await _keys(by).all() if by.key is None or by.key.is_admin else [by.key]


async def create(
    by: Caller,
    name: str,
    *,
    senders: Collection[str] | None,
    permissions: Collection[Permission] | None,
    per_minute: int | None = None,
) -> str:
    """Make a key; its secret, which cannot be shown again.

    None: any mailbox, every permission, no limit.

    Raises:
        KeyChoiceError, KeyNameError: it cannot be made like this.
    """
    _require_admin(by)
    secret = await _keys(by).create(
        name, senders=senders, permissions=permissions, per_minute=per_minute, actor=by.actor
    )
    _tell(by, name, "create_key")
    return secret


async def rotate(
    by: Caller, which: str, *, overlap: timedelta = OVERLAP, seen: str | None = None
) -> str:
    """Give a key, by its id or name, a new secret, which is returned; the old one is good for
    `overlap`.

    Raises:
        KeyNameError: there is none, or its secret is another than the one whose hint the caller has
        seen.
    """
    _require_admin(by)
    name = await _name(by, which)
    secret = await _keys(by).rotate(which, overlap=overlap, seen=seen, actor=by.actor)
    _tell(by, name, "rotate_key")
    return secret


async def revoke(by: Caller, which: str) -> RevokedKey:
    """Revoke a key, by its id or name.

    Raises:
        KeyNameError: there is none.
    """
    _require_admin(by)
    name = await _name(by, which)
    number = await _keys(by).revoke(which, actor=by.actor)
    _tell(by, name, "revoke_key")
    return RevokedKey(
        number, await Webhooks(by.backend.database, timeout=by.backend.timeout).made_by(number)
    )


def _require_admin(by: Caller) -> None:
    if by.key and not by.key.is_admin:
        raise not_allowed(
            t("Key {key} is limited. Sign in with a key without limits.", key=by.key.name)
        )


async def _name(by: Caller, which: str) -> str:
    """The name of a key that goes by an id or a name, for the log."""
    return next((it.name for it in await _keys(by).all() if str(it.id) == which), which)


def _keys(by: Caller) -> ApiKeys:
    return ApiKeys(by.backend.database, timeout=by.backend.timeout)


def _tell(by: Caller, name: str, action: str) -> None:
    by.backend.events.key_action(name=name, action=action, actor=by.actor, via=by.via.value)
