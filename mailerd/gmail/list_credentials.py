"""Lists the credential files with kind, mode and problems, from the disk alone; no secret is shown."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, assert_never

from mailerd.config import GmailSettings
from mailerd.core.replies import NoCredentials
from mailerd.gmail.credentials import AuthorizedUser, CredentialDirs, ServiceAccount, read
from mailerd.gmail.mailbox import Mailbox, mailbox_with


@dataclass(frozen=True)
class Entry:
    """One credential file."""

    owner: str
    """The mailbox or the @domain that the file is for."""
    path: Path
    kind: Literal["authorized_user", "service_account", ""] = ""
    """What it is; empty when the file cannot be used."""
    mode: Literal["draft", "direct", ""] = ""
    """How it sends; empty when only Google knows."""
    scopes: tuple[str, ...] = ()
    """The scopes that the file names; empty when it names none."""
    problem: str = ""
    used: bool = True
    """Whether it is the first file of its name and no alias."""


def inventory(settings: GmailSettings) -> list[Entry]:
    """Every credential file, in the order in which the folders are searched."""
    entries: list[Entry] = []
    first: dict[str, Path] = {}
    for found in CredentialDirs.configured(settings.credentials_dir).all():
        used = first.setdefault(found.owner, found.path)
        known = read(found)
        if used != found.path:
            entries.append(
                Entry(found.owner, found.path, problem=f"not used, {used} comes first; remove one of them", used=False)
            )
        elif found.owner in settings.aliases:
            target = settings.aliases[found.owner]
            why = f"not used, gmail.aliases makes it an alias of {target}; remove one of them"
            entries.append(Entry(found.owner, found.path, problem=why, used=False))
        else:
            entries.append(_entry(found.owner, found.path, known))
    return entries


def _entry(owner: str, path: Path, known: AuthorizedUser | ServiceAccount | NoCredentials) -> Entry:
    match known:
        case NoCredentials(cause):
            return Entry(owner, path, problem=cause)
        case ServiceAccount():
            return Entry(owner, path, kind="service_account")
        case AuthorizedUser(scopes=()):
            return Entry(owner, path, kind="authorized_user")
        case AuthorizedUser(scopes=scopes):
            box = mailbox_with(owner, scopes=scopes)
            if isinstance(box, Mailbox):
                return Entry(owner, path, kind="authorized_user", mode=box.mode, scopes=scopes)
            return Entry(owner, path, kind="authorized_user", scopes=scopes, problem=box.cause)
        case _:
            assert_never(known)
