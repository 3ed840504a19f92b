"""Finds, reads, lists and saves credential files of Google's standard form; no secret of theirs is
shown.

A sender's name is compared with the names in the folders, so that no sender can name a file outside
them.
"""

import json
import os
import re
import secrets
import stat
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Self, assert_never

from mailerd.config import GmailSettings
from mailerd.core.i18n import joined, t
from mailerd.core.reasons import reason
from mailerd.core.replies import NoCredentials
from mailerd.errors import MailerdError
from mailerd.gmail.session import parse_json

# What a sender's granted scopes allow: the delivery mode, and whether metadata of its mail can be
# read.

_ROOT = "https://www.googleapis.com/auth/"
COMPOSE = _ROOT + "gmail.compose"
SEND = _ROOT + "gmail.send"
METADATA = _ROOT + "gmail.metadata"
_MODIFY = _ROOT + "gmail.modify"
READONLY = _ROOT + "gmail.readonly"
_FULL = "https://mail.google.com/"

_DRAFT_SCOPES = {COMPOSE, _MODIFY, _FULL}
_READ_SCOPES = {METADATA, READONLY, _MODIFY, _FULL}
_BODY_SCOPES = {READONLY, _MODIFY, _FULL}

_PROFILE_SCOPES = _DRAFT_SCOPES | _READ_SCOPES
"""Any of these allows users.getProfile:
https://developers.google.com/workspace/gmail/api/reference/rest/v1/users/getProfile
"""

SCOPE_PREFERENCE = ((COMPOSE, READONLY), (COMPOSE, METADATA), (COMPOSE,), (SEND, METADATA), (SEND,))
"""Sets of scopes to request for a service account, best first; Google refuses a set with an
undelegated scope.
"""


@dataclass(frozen=True)
class Mailbox:
    """A sender that Google has given a token for."""

    sender: str
    mode: Literal["draft", "direct"]
    can_read_metadata: bool
    scopes: tuple[str, ...]
    """The granted scopes; empty when neither Google nor the credential file names them."""
    project: str = field(default="", compare=False)
    """The Cloud project whose quota its calls use."""
    can_read_bodies: bool = field(default=False, compare=False)
    """Whole messages can be read: gmail.readonly or more, without gmail.metadata, beside which
    Google refuses.
    """
    can_read_drafts: bool = field(default=False, compare=False)
    """Whole drafts can be read; beside gmail.metadata Google refuses that, too."""
    verified: bool = field(default=True, compare=False)
    """Google has named the mailbox, or the request did.

    With gmail.send alone Google does not say whose it is.
    """


def allow_profile(scopes: tuple[str, ...]) -> bool:
    """Whether the scopes allow users.getProfile; unknown scopes are tried."""
    return not scopes or bool(set(scopes) & _PROFILE_SCOPES)


@lru_cache(maxsize=1024)
def mailbox_with(
    sender: str, *, scopes: tuple[str, ...], project: str = "", verified: bool = True
) -> Mailbox | NoCredentials:
    """The mailbox with these scopes, or why nothing can be sent with them.

    It is the same for every message.
    """
    granted = set(scopes)
    if granted & _DRAFT_SCOPES or not granted:
        # Unknown scopes are taken as allowing drafts: if that is wrong, Google refuses before
        # anything is sent.
        mode: Literal["draft", "direct"] = "draft"
    elif SEND in granted:
        mode = "direct"
    else:
        return NoCredentials(
            joined(
                [
                    t(
                        "the authorization allows neither {compose} nor {send}, only {scopes}",
                        compose=COMPOSE,
                        send=SEND,
                        scopes=", ".join(scopes),
                    ),
                    t(
                        "run `mailerd auth login --sender {sender}` and allow gmail.compose",
                        sender=sender,
                    ),
                ]
            )
        )
    can_read = bool(granted & _READ_SCOPES)
    bodies = bool(granted & _BODY_SCOPES) and METADATA not in granted
    return Mailbox(
        sender=sender,
        mode=mode,
        can_read_metadata=can_read,
        scopes=scopes,
        project=project,
        can_read_bodies=bodies,
        verified=verified,
        can_read_drafts=METADATA not in granted and (mode == "draft" or bodies),
    )


_MAX_BYTES = 64 * 1024
"""The bytes of a file that are read; a longer file is cut off, and is then no JSON."""
_PREFIX = "mailerd."
_MAX_PROJECT = 190
_ADDRESS = re.compile(r"[^\s@/\\\x00-\x1f\x7f]+@[^\s@/\\\x00-\x1f\x7f]+")


@dataclass(frozen=True)
class AuthorizedUser:
    """A person's sign-in."""

    client_id: str
    client_secret: str = field(repr=False)
    refresh_token: str = field(repr=False)
    scopes: tuple[str, ...] = ()
    """The scopes that the file names; those of Google's answer take precedence."""

    @property
    def project(self) -> str:
        """The Cloud project whose quota is used: its number, with which Google's client ids
        begin.
        """
        number, _, _ = self.client_id.partition("-")
        return number if number.isdecimal() else self.client_id[:_MAX_PROJECT]


@dataclass(frozen=True)
class ServiceAccount:
    """A service account that may act for the sender."""

    client_email: str
    private_key_id: str
    private_key: str = field(repr=False)

    @property
    def project(self) -> str:
        """The Cloud project whose quota is used: its id, which stands in
        name@project.iam.gserviceaccount.com.
        """
        return self.client_email.rpartition("@")[2].removesuffix(".iam.gserviceaccount.com")[
            :_MAX_PROJECT
        ]


Credentials = AuthorizedUser | ServiceAccount


@dataclass(frozen=True)
class CredentialFile:
    """A sender's credential file, as it was when it was found."""

    path: Path
    of_domain: bool
    of_systemd: bool
    stamp: tuple[int, ...]

    @property
    def owner(self) -> str:
        """The mailbox, or the @domain, whose file it is."""
        name = self.path.name.lower().removesuffix(".json")
        return name.removeprefix(_PREFIX) if self.of_systemd else name


class CredentialDirs:
    """The folders with credential files: the configured one, then systemd's."""

    def __init__(self, folder: Path, *, systemd: Path | None = None) -> None:
        self._folder = folder
        self._systemd = systemd

    @classmethod
    def configured(cls, folder: Path) -> Self:
        """The folder of the settings, and systemd's when there is one (systemd.exec(5),
        LoadCredential=).
        """
        systemd = os.environ.get("CREDENTIALS_DIRECTORY")
        return cls(folder, systemd=Path(systemd) if systemd else None)

    def all(self) -> list[CredentialFile]:
        """Every file that is named after a mailbox or a domain; of two with one name, first the one
        that is used.
        """
        found = []
        for folder in filter(None, (self._folder, self._systemd)):
            for name, path in sorted(self._listing(folder).items()):
                if name.endswith(".json") and "@" in name:
                    domain, systemd = name.startswith("@"), folder == self._systemd
                    found.append(
                        CredentialFile(
                            path=path, of_domain=domain, of_systemd=systemd, stamp=_stamp(path)
                        )
                    )
        return found

    def version(self) -> tuple[tuple[int, ...], ...]:
        """A value that changes when a file comes, goes or is renamed; costs one stat per folder."""
        return tuple(_stamp(folder) for folder in (self._folder, self._systemd) if folder)

    def find(self, sender: str) -> CredentialFile | NoCredentials:
        """The file for a sender (in lower case): its own before its domain's; names match in any
        case.
        """
        if not _ADDRESS.fullmatch(sender):
            return NoCredentials(
                t("no credential file for {sender!r}: not an email address", sender=sender)
            )
        domain = sender.rpartition("@")[2]
        own = self._folder / f"{sender}.json"
        # so that at the start not each of many senders lists the whole folder
        if stamp := _stamp(own):
            return CredentialFile(path=own, of_domain=False, of_systemd=False, stamp=stamp)
        listings = [(self._listing(self._folder), False)]
        if self._systemd:
            listings.append((self._listing(self._systemd), True))
        names = f"{sender}.json", f"@{domain}.json"
        for name in names:
            for listing, of_systemd in listings:
                if path := listing.get(name):
                    return CredentialFile(
                        path=path,
                        of_domain=name == names[1],
                        of_systemd=of_systemd,
                        stamp=_stamp(path),
                    )
        where = " or ".join(str(folder) for folder in (self._folder, self._systemd) if folder)
        return NoCredentials(
            joined(
                [
                    t(
                        "no credential file for {sender}: looked for {own} and {domain} in {where}",
                        sender=sender,
                        own=names[0],
                        domain=names[1],
                        where=where,
                    ),
                    t(
                        "run `mailerd auth login --sender {sender}`, put a service account's key there, or name the "
                        "mailbox of this alias in gmail.aliases",
                        sender=sender,
                    ),
                ]
            )
        )

    def _listing(self, folder: Path) -> dict[str, Path]:
        """The files by name in lower case, without the prefix that systemd's ImportCredential=
        needs.
        """
        try:
            names = sorted(path.name for path in folder.iterdir())
        except OSError:
            # A folder that is missing or cannot be read counts as empty; `find` says where it
            # looked.
            return {}
        listing: dict[str, Path] = {}
        for name in names:
            known = name.lower().removeprefix(_PREFIX) if folder == self._systemd else name.lower()
            listing.setdefault(known, folder / name)
        return listing


def changed(found: CredentialFile) -> bool:
    """Whether the file has changed since it was found; costs one stat."""
    return _stamp(found.path) != found.stamp


def read(found: CredentialFile) -> Credentials | NoCredentials:
    """The credentials in a file, or what is wrong with it and what to do."""
    path = found.path
    try:
        # Without O_NONBLOCK, opening a named pipe would wait for its writer without end.
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as file:
            if problem := _check_permissions(os.fstat(handle), found=found):
                return NoCredentials(problem)
            text = file.read(_MAX_BYTES)
    except OSError as error:
        return NoCredentials(
            joined(
                [
                    t("cannot read {path}: {strerror}", path=path, strerror=error.strerror),
                    t("make the file readable for mailerd's user only"),
                ]
            )
        )
    document = parse_json(text)
    if not isinstance(document, dict):
        return NoCredentials(
            joined(
                [
                    t("{path} is not a JSON object as written by Google's tools", path=path),
                    t("create the file again"),
                ]
            )
        )
    return _parse(document, found=found)


def _check_permissions(status: os.stat_result, *, found: CredentialFile) -> str:
    """What is wrong with the kind or the permissions of a file, or ""."""
    if not stat.S_ISREG(status.st_mode):
        return joined(
            [t("{path} is not a regular file", path=found.path), t("put Google's JSON there")]
        )
    # systemd mounts credentials as root's with mode 0400, or 0440 where an access list admits the
    # service's user.
    allowed = stat.S_IRGRP if found.of_systemd and status.st_uid == 0 else 0
    if status.st_mode & 0o077 & ~allowed:
        exposed = reason(
            "credentials_exposed", path=str(found.path), mode=f"{stat.S_IMODE(status.st_mode):04o}"
        )
        return joined([exposed, t("run: chmod 600 {path}", path=found.path)])
    return ""


def _parse(document: dict[str, Any], *, found: CredentialFile) -> Credentials | NoCredentials:
    match document.get("type"):
        case "authorized_user" if found.of_domain:
            return NoCredentials(
                joined(
                    [
                        t(
                            "{path} is one person's authorization (authorized_user), which cannot serve a whole domain",
                            path=found.path,
                        ),
                        t(
                            "put a service account with domain-wide delegation there, or name the file after the "
                            "mailbox"
                        ),
                    ]
                )
            )
        case "authorized_user":
            required: tuple[str, ...] = ("client_id", "client_secret", "refresh_token")
        case "service_account":
            required = ("client_email", "private_key")
        case _:
            hint = ""
            if "installed" in document or "web" in document:
                hint = t(
                    " (this is an OAuth client: give it to `mailerd auth login`, which makes the file)"
                )
            return NoCredentials(
                joined(
                    [
                        t(
                            '{path}: "type" is neither authorized_user nor service_account{hint}',
                            path=found.path,
                            hint=hint,
                        ),
                        t("create the file again"),
                    ]
                )
            )
    values = {key: document.get(key) for key in required}
    missing = [
        key for key, value in values.items() if not isinstance(value, str) or not value.strip()
    ]
    if missing:
        return NoCredentials(
            t(
                "{path}: {missing} missing or not text; create the file again",
                path=found.path,
                missing=", ".join(missing),
            )
        )
    known = {key: str(value) for key, value in values.items()}
    if document["type"] == "service_account":
        return ServiceAccount(private_key_id=str(document.get("private_key_id") or ""), **known)
    scopes = document.get("scopes")
    named = (
        [s for s in scopes if isinstance(s, str)]
        if isinstance(scopes, list)
        else str(scopes or "").split()
    )
    return AuthorizedUser(scopes=tuple(named), **known)


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except OSError:
        return ()
    # ctime as well, so that a chmod is noticed.
    return status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_size


# Lists the credential files with kind, mode and problems, from the disk alone; no secret is shown.


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
                Entry(
                    found.owner,
                    found.path,
                    problem=joined(
                        [
                            t("is not used: {used} takes precedence", used=used),
                            t("remove one of the files"),
                        ]
                    ),
                    used=False,
                )
            )
        elif found.owner in settings.aliases:
            target = settings.aliases[found.owner]
            why = joined(
                [
                    t("is not used: an alias of {target} in gmail.aliases", target=target),
                    t("remove the file or the alias"),
                ]
            )
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


# Writes a credential file: whole or not at all, and readable by its owner alone from the start.


class NotSavedError(MailerdError):
    """The file could not be written, or must not be; nothing was changed."""


def credential_path(sender: str, folder: Path) -> Path:
    """Where the file of a mailbox belongs.

    Makes the folder and tries to write, before a person is asked to agree.

    Raises:
        NotSavedError: the folder cannot be written to, or a service account's key stands there.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        trial = folder / f".{secrets.token_hex(8)}"
        trial.touch(mode=0o600)
        trial.unlink()
    except OSError as error:
        raise NotSavedError(
            t(
                "cannot write to {folder} (gmail.credentials_dir): {strerror}; run this as the owner of the folder",
                folder=folder,
                strerror=error.strerror,
            )
        ) from error
    found = CredentialDirs(folder).find(sender)
    if not isinstance(found, CredentialFile) or found.of_domain:
        return folder / f"{sender}.json"
    # A service account's key cannot be downloaded again once it is overwritten.
    if _kind(found.path) == "service_account":
        raise NotSavedError(
            t(
                "{path} is a service account's key and was not overwritten; move the file first",
                path=found.path,
            )
        )
    return found.path


def _kind(path: Path) -> str:
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return ""
    return str(document.get("type", "")) if isinstance(document, dict) else ""


def save(path: Path, credentials: AuthorizedUser) -> None:
    """Write the file in Google's form ("authorized_user") with mode 0600, in place of the one that
    was there.

    When root signs in for the daemon's user, that user owns the new file: see `_owner`.

    Raises:
        NotSavedError: it could not be written.
    """
    document: dict[str, Any] = {
        "type": "authorized_user",
        "client_id": credentials.client_id,
        "client_secret": credentials.client_secret,
        "refresh_token": credentials.refresh_token,
        "scopes": list(credentials.scopes),
    }
    draft = path.with_name(f".{secrets.token_hex(8)}")
    try:
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                if os.geteuid() == 0:
                    owner = _owner(path)
                    os.fchown(handle, owner.st_uid, owner.st_gid)
                json.dump(document, file, indent=2)
                file.write("\n")
                file.flush()
                os.fsync(handle)
            draft.replace(path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise NotSavedError(
            t(
                "could not write {path}: {strerror}; nothing was changed",
                path=path,
                strerror=error.strerror,
            )
        ) from error
    _sync(path.parent)


def _owner(path: Path) -> os.stat_result:
    """The owner of the old file, or else of the folder: root writes the file for the daemon's
    user.
    """
    folder = path.parent.stat()
    return path.stat() if path.exists() and path.stat().st_uid else folder


def _sync(folder: Path) -> None:
    """Make the folder's entry durable as well."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
