"""Named templates of the API: a version is stored, published, the name archived.

Another's is as good as none.
"""

from collections.abc import Collection, Mapping

from mailerd.operations.caller import Caller, operation
from mailerd.store.write.api_keys import Permission
from mailerd.store.write.templates import TemplateStore


@operation(Permission.TEMPLATES)
async def save(
    by: Caller, name: str, version: str, files: Mapping[str, bytes], *, comment: str | None
) -> bool:
    """Store a version, which was checked; whether it is new. One that is there stays as it is.

    Raises:
        TooManyTemplatesError, NameTakenError, OthersTemplateError: as `TemplateStore.put`.
    """
    created = await store(by).put(name, version, files, comment=comment, actor=by.actor)
    if created:
        _changed(by, "save_template", name, version)
    return created


@operation(Permission.TEMPLATES)
async def publish(
    by: Caller,
    name: str,
    version: str,
    *,
    expect: str | None,
    layouts: Collection[str],
    users: Collection[str],
) -> bool | None:
    """Let jobs get a version from now on, if `expect` is the one that they get; as
    `TemplateStore.publish`.
    """
    changed = await store(by).publish(
        name, version, expect=expect, actor=by.actor, layouts=layouts, users=users
    )
    if changed:
        _changed(by, "publish_template", name, version)
    return changed


@operation(Permission.TEMPLATES)
async def archive(by: Caller, name: str, *, users: Collection[str]) -> bool:
    """Let a name find nothing any more; whether it found anything. As `TemplateStore.archive`."""
    found = await store(by).archive(name, actor=by.actor, users=users)
    if found:
        _changed(by, "archive_template", name, "")
    return found


def store(by: Caller) -> TemplateStore:
    """The templates that the caller sees."""
    return TemplateStore(by.backend.database, by.backend.timeout).seen_by(by.senders)


def _changed(by: Caller, action: str, name: str, version: str) -> None:
    by.backend.events.template_action(
        name=name, action=action, version=version, actor=by.actor, via=by.via.value
    )
