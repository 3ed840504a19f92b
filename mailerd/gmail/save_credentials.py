"""Writes a credential file: whole or not at all, and readable by its owner alone from the start."""

import json
import os
import secrets
from pathlib import Path
from typing import Any

from mailerd.errors import MailerdError
from mailerd.gmail.credentials import AuthorizedUser, CredentialDirs, CredentialFile


class NotSavedError(MailerdError):
    """The file could not be written, or must not be; nothing was changed."""


def credential_path(sender: str, folder: Path) -> Path:
    """Where the file of a mailbox belongs. Makes the folder and tries to write, before a person is asked to agree.

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
            f"{folder} (gmail.credentials_dir) cannot be written to: {error.strerror}; run this as its owner"
        ) from error
    found = CredentialDirs(folder).find(sender)
    if not isinstance(found, CredentialFile) or found.of_domain:
        return folder / f"{sender}.json"
    # A service account's key cannot be downloaded again once it is overwritten.
    if _kind(found.path) == "service_account":
        raise NotSavedError(f"{found.path} is a service account's key and is not overwritten; move it away first")
    return found.path


def _kind(path: Path) -> str:
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return ""
    return str(document.get("type", "")) if isinstance(document, dict) else ""


def save(path: Path, credentials: AuthorizedUser) -> None:
    """Write the file in Google's form ("authorized_user") with mode 0600, in place of the one that was there.

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
        raise NotSavedError(f"{path} could not be written: {error.strerror}; nothing was changed") from error
    _sync(path.parent)


def _owner(path: Path) -> os.stat_result:
    """The owner of the old file, or else of the folder: root writes the file for the daemon's user."""
    folder = path.parent.stat()
    return path.stat() if path.exists() and path.stat().st_uid else folder


def _sync(folder: Path) -> None:
    """Make the folder's entry durable as well."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
