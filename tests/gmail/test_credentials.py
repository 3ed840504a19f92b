"""Which credential file is a sender's, and which are refused."""

import json
import os
import stat
from pathlib import Path

import pytest

from mailerd.config import GmailSettings
from mailerd.core.replies import NoCredentials
from mailerd.gmail.credentials import (
    AuthorizedUser,
    CredentialDirs,
    CredentialFile,
    Credentials,
    NotSavedError,
    ServiceAccount,
    credential_path,
    inventory,
    read,
    save,
)

PERSON = {"type": "authorized_user", "client_id": "id", "client_secret": "hush-1", "refresh_token": "hush-2"}
SERVICE = {"type": "service_account", "client_email": "sa@p.iam", "private_key": "hush-3", "private_key_id": "k"}


def put(path: Path, content: object = PERSON, *, mode: int = 0o600) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    path.chmod(mode)
    return path


def resolve(folders: CredentialDirs, sender: str) -> Credentials | NoCredentials:
    found = folders.find(sender)
    return read(found) if isinstance(found, CredentialFile) else found


def cause(folders: CredentialDirs, sender: str = "me@example.com") -> str:
    outcome = resolve(folders, sender)
    assert isinstance(outcome, NoCredentials)
    assert "hush" not in outcome.cause
    return outcome.cause


def test_a_mailbox_has_its_own_file(tmp_path: Path) -> None:
    put(tmp_path / "me@example.com.json", PERSON | {"scopes": ["a", "b"]})
    expected = AuthorizedUser("id", "hush-1", "hush-2", scopes=("a", "b"))
    assert resolve(CredentialDirs(tmp_path), "me@example.com") == expected


def test_a_domain_has_a_service_account(tmp_path: Path) -> None:
    put(tmp_path / "@Example.COM.json", SERVICE)
    assert resolve(CredentialDirs(tmp_path), "me@example.com") == ServiceAccount("sa@p.iam", "k", "hush-3")


def test_the_mailboxs_file_comes_before_the_domains(tmp_path: Path) -> None:
    put(tmp_path / "@example.com.json", SERVICE)
    put(tmp_path / "ME@Example.com.json")
    assert isinstance(resolve(CredentialDirs(tmp_path), "me@example.com"), AuthorizedUser)
    assert isinstance(resolve(CredentialDirs(tmp_path), "you@example.com"), ServiceAccount)


def test_a_bad_file_of_the_mailbox_does_not_fall_back_to_the_domains(tmp_path: Path) -> None:
    put(tmp_path / "@example.com.json", SERVICE)
    put(tmp_path / "me@example.com.json", "{")
    assert "is not a JSON object" in cause(CredentialDirs(tmp_path))


@pytest.mark.parametrize("name", ["me@example.com.json", "mailerd.me@example.com.json", "mailerd.@example.com.json"])
def test_systemds_folder_serves_as_well_with_and_without_the_prefix(tmp_path: Path, name: str) -> None:
    put(tmp_path / "systemd" / name, SERVICE, mode=0o440)
    folders = CredentialDirs(tmp_path / "none", systemd=tmp_path / "systemd")
    assert isinstance(resolve(folders, "me@example.com"), ServiceAccount)


def test_the_prefix_counts_in_systemds_folder_only(tmp_path: Path) -> None:
    put(tmp_path / "mailerd.me@example.com.json")
    assert "no credential file" in cause(CredentialDirs(tmp_path))
    assert isinstance(resolve(CredentialDirs(tmp_path), "mailerd.me@example.com"), AuthorizedUser)


def test_another_mailbox_is_never_taken_for_a_prefixed_one(tmp_path: Path) -> None:
    put(tmp_path / "systemd" / "mailerd.me@example.com.json", mode=0o400)
    folders = CredentialDirs(tmp_path / "none", systemd=tmp_path / "systemd")
    assert "no credential file" in cause(folders, "mailerd.me@example.com")


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o620, 0o601, 0o666])
def test_a_file_that_others_may_read_is_refused_with_the_command_that_helps(tmp_path: Path, mode: int) -> None:
    path = put(tmp_path / "me@example.com.json", mode=mode)
    assert f"chmod 600 {path}" in cause(CredentialDirs(tmp_path))


def test_systemds_exception_covers_a_readable_group_and_no_more(tmp_path: Path) -> None:
    put(tmp_path / "systemd" / "me@example.com.json", mode=0o444)
    folders = CredentialDirs(tmp_path / "none", systemd=tmp_path / "systemd")
    assert "chmod 600" in cause(folders)


def test_systemds_exception_is_for_roots_files_only(tmp_path: Path) -> None:
    path = put(tmp_path / "systemd" / "me@example.com.json", mode=0o440)
    if os.geteuid() == 0:
        os.chown(path, 12345, 12345)
    folders = CredentialDirs(tmp_path / "none", systemd=tmp_path / "systemd")
    assert "chmod 600" in cause(folders)


@pytest.mark.parametrize(
    "sender",
    [
        "../secret@example.com",
        "x/../../y@example.com",
        "a@../b",
        "@example.com",
        "me",
        "",
        "a@b@c",
        "a\0@b",
        "a\n@b",
        "a@\\b",
    ],
)
def test_a_sender_that_is_no_address_leads_nowhere(tmp_path: Path, sender: str) -> None:
    folder = tmp_path / "credentials"
    folder.mkdir()
    put(tmp_path / "secret@example.com.json")
    assert "not an email address" in cause(CredentialDirs(folder), sender)


def test_what_is_missing_is_named_with_the_places_and_the_remedy(tmp_path: Path) -> None:
    said = cause(CredentialDirs(tmp_path / "a", systemd=tmp_path / "b"))
    for word in ("me@example.com.json", "@example.com.json", str(tmp_path / "a"), str(tmp_path / "b"), "auth login"):
        assert word in said


@pytest.mark.parametrize(
    "content, word",
    [
        ("{", "not a JSON object"),
        ("[]", "not a JSON object"),
        ("[" * 60_000, "not a JSON object"),
        (" " * 70_000 + "{}", "not a JSON object"),
        ({"type": "external_account"}, "neither authorized_user nor service_account"),
        ({"installed": {"client_secret": "hush"}}, "auth login"),
        (PERSON | {"refresh_token": ""}, "refresh_token missing"),
        (PERSON | {"client_secret": 3}, "client_secret missing"),
        (SERVICE | {"private_key": None}, "private_key missing"),
    ],
)
def test_a_file_that_cannot_serve_says_why(tmp_path: Path, content: object, word: str) -> None:
    path = put(tmp_path / "me@example.com.json", content)
    said = cause(CredentialDirs(tmp_path))
    assert word in said
    assert str(path) in said


def test_a_person_cannot_stand_for_a_domain(tmp_path: Path) -> None:
    put(tmp_path / "@example.com.json", PERSON)
    assert "cannot serve a whole domain" in cause(CredentialDirs(tmp_path))


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "me@example.com.json", 0o600)
    assert "not a regular file" in cause(CredentialDirs(tmp_path))


def test_a_file_that_vanishes_is_said_to_be_unreadable(tmp_path: Path) -> None:
    path = put(tmp_path / "me@example.com.json")
    found = CredentialDirs(tmp_path).find("me@example.com")
    assert isinstance(found, CredentialFile)
    path.unlink()
    outcome = read(found)
    assert isinstance(outcome, NoCredentials)
    assert "cannot read" in outcome.cause


def test_no_secret_shows_in_a_repr(tmp_path: Path) -> None:
    put(tmp_path / "me@example.com.json")
    put(tmp_path / "@example.com.json", SERVICE)
    shown = [repr(resolve(CredentialDirs(tmp_path), sender)) for sender in ("me@example.com", "x@example.com")]
    assert "hush" not in "".join(shown)


def test_every_file_of_a_mailbox_or_a_domain_is_listed_with_its_owner(tmp_path: Path) -> None:
    put(tmp_path / "a" / "ME@example.com.json")
    put(tmp_path / "a" / "client.json")
    put(tmp_path / "a" / "me@example.com.json.old")
    put(tmp_path / "s" / "mailerd.@example.com.json", SERVICE)
    listed = CredentialDirs(tmp_path / "a", systemd=tmp_path / "s").all()
    assert [(each.owner, each.of_domain, each.of_systemd) for each in listed] == [
        ("me@example.com", False, False),
        ("@example.com", True, True),
    ]


def test_of_two_files_and_of_a_file_and_an_alias_the_one_that_is_not_used_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "a" / "me@example.com.json")
    put(tmp_path / "a" / "sales@example.com.json")
    put(tmp_path / "s" / "me@example.com.json")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "s"))
    settings = GmailSettings(credentials_dir=tmp_path / "a", aliases={"sales@example.com": "me@example.com"})
    listed = [(each.owner, each.used, each.problem) for each in inventory(settings)]
    assert listed[0] == ("me@example.com", True, "")
    assert listed[1][:2] == ("sales@example.com", False)
    assert "an alias of me@example.com" in listed[1][2]
    assert listed[2][:2] == ("me@example.com", False)
    assert "takes precedence" in listed[2][2]


def test_a_file_is_written_whole_for_its_owner_alone_and_reads_back(tmp_path: Path) -> None:
    person = AuthorizedUser("id", "hush-1", "hush-2", scopes=("s",))
    place = credential_path("me@example.com", tmp_path / "new" / "folder")
    save(place, person)
    save(place, person)
    assert resolve(CredentialDirs(tmp_path / "new" / "folder"), "me@example.com") == person
    assert [each.name for each in place.parent.iterdir()] == ["me@example.com.json"]


def test_a_file_of_another_spelling_is_replaced_and_a_domains_key_is_let_be(tmp_path: Path) -> None:
    put(tmp_path / "ME@Example.com.json")
    put(tmp_path / "@example.com.json", SERVICE)
    assert credential_path("me@example.com", tmp_path).name == "ME@Example.com.json"
    assert credential_path("you@example.com", tmp_path).name == "you@example.com.json"


def test_a_folder_that_cannot_be_written_to_is_said_before_anybody_agrees(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotSavedError, match=r"gmail\.credentials_dir"):
        credential_path("me@example.com", tmp_path / "file")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize(
    "folder, file, expected",
    [(12345, None, 12345), (0, 12345, 12345), (12345, 0, 12345), (12345, 54321, 54321), (0, None, 0)],
)
def test_root_leaves_the_file_to_whoever_has_had_it_or_has_the_folder(
    tmp_path: Path, folder: int, file: int | None, expected: int
) -> None:
    path = tmp_path / "me@example.com.json"
    if file is not None:
        put(path)
        os.chown(path, file, file)
    os.chown(tmp_path, folder, folder)
    save(path, AuthorizedUser("id", "hush-1", "hush-2"))
    status = path.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (expected, expected, 0o600)
