"""The whole examination, against a real database and a stand-in for Google, in good order and in every bad one."""

import asyncio
import json
import os
import socket
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from mailerd.cli.checks import CheckResult, CheckRunner, Level, machine
from mailerd.cli.checks import database as doctors_database
from mailerd.cli.checks.machine import SystemPaths
from mailerd.clock import Clock
from mailerd.config import IntakeSettings, Settings
from mailerd.events.process import StoreEvents
from mailerd.gmail.credentials import COMPOSE, METADATA, SEND
from mailerd.locale import speak
from mailerd.sandbox.google import FakeGoogle, Fault, RunningServer, serve
from mailerd.sandbox.mariadb import Server
from mailerd.store.db.database import Database
from mailerd.store.db.migrate import migrate
from mailerd.store.db.pool import Pool
from tests.support.daemon import settings, sign_in
from tests.support.heard import Heard
from tests.support.own_time import own_time
from tests.support.read_only import read_only
from tests.support.replayed import daemons
from tests.support.rows import post, query

ME = "me@example.com"


@dataclass
class Patient:
    """What is examined."""

    known: Settings
    google: FakeGoogle
    running: RunningServer
    credentials: Path
    database: Database

    async def examined(self, **changes: Any) -> dict[str, CheckResult]:
        """The findings by what was examined."""
        runner = CheckRunner(self.known, None, paths=SystemPaths(booted=Path("/nowhere")))
        found, ended = await asyncio.to_thread(replace(runner, **changes).examine)
        assert ended
        assert all(each.remedy for each in found if each.level is not Level.PASS)
        return {each.check: each for each in found}

    def with_(self, **sections: dict[str, Any]) -> "Patient":
        dumped = self.known.model_dump()
        for name, keys in sections.items():
            dumped[name] |= keys
        return replace(self, known=Settings.model_validate(dumped))


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctors_database, "TRY_BOUND", 0.1)


@pytest.fixture
async def patient(database_url: str, tmp_path: Path) -> AsyncIterator[Patient]:
    google = FakeGoogle()
    credentials = tmp_path / "credentials"
    credentials.mkdir(mode=0o700)
    sign_in(google, credentials, scopes=(COMPOSE, METADATA))
    async with serve(google) as running:
        known = settings(database_url, running, credentials)
        database = Database(known.database, events=StoreEvents(Heard()))
        await migrate(database, events=StoreEvents(Heard()))
        yield Patient(known, google, running, credentials, database)
        await database.close()


async def test_a_healthy_system_passes_in_every_point(patient: Patient) -> None:
    await daemons(patient.database, "here").heartbeat()
    found = await patient.examined()
    # The private server does not flush at each commit, as is told; everything else is as it must be.
    assert {each.check: each.level for each in found.values() if each.level is not Level.PASS} in (
        {},
        {"database: durability": Level.WARN},
    )
    for check in ("configuration", "database", "database: time-outs", "clocks", ME):
        assert check in found
    assert "draft mode" in found[ME].what


async def test_it_changes_nothing(patient: Patient) -> None:
    await post(patient.database, recipients=2)
    before = await everything(patient.database)
    await patient.examined()
    assert await everything(patient.database) == before
    assert patient.google.sent == []
    assert {entry.method for entry in patient.google.log} == {"token", "getProfile"}


async def everything(database: Database) -> list[Any]:
    tables = [row[0] for row in await query(database, "SHOW TABLES")]
    return [(table, await query(database, f"SELECT * FROM {table}")) for table in sorted(tables)]


async def test_a_frozen_database_is_told_within_its_bound(patient: Patient, mariadb: Server) -> None:
    mariadb.freeze()
    started = own_time()
    try:
        found = await patient.examined()
    finally:
        mariadb.thaw()
    assert own_time() - started < 20
    assert found["database"].level is Level.FAIL
    assert "no response within 4 s" in found["database"].what
    assert found[ME].level is Level.PASS


@pytest.mark.parametrize("word, replaced", [("Access denied", ":wrong@"), ("Connection refused", "")])
async def test_a_database_that_cannot_be_reached_is_told(patient: Patient, word: str, replaced: str) -> None:
    url = patient.known.database.url
    password = f":{urlsplit(url).password}@"
    url = url.replace(password, replaced) if replaced else "mysql://u:p@127.0.0.1:9/mailerd"
    found = (await patient.with_(database={"url": url}).examined())["database"]
    assert found.level is Level.FAIL
    assert word in found.what
    assert password[1:-1] not in found.line()
    assert "database.url" in found.remedy


async def test_an_old_a_new_and_a_missing_schema_are_told(patient: Patient) -> None:
    await query(patient.database, "DELETE FROM schema_version")
    assert (await patient.examined())["database: schema"].remedy == "mailerd migrate"
    await query(patient.database, "INSERT INTO schema_version VALUES (999, 'future', UTC_TIMESTAMP())")
    assert "install the newer" in (await patient.examined())["database: schema"].remedy
    await query(patient.database, "DROP TABLE schema_version")
    found = await patient.examined()
    assert found["database: schema"].level is Level.FAIL


async def test_a_read_only_server_is_told(patient: Patient, mariadb: Server) -> None:
    async with read_only(mariadb):
        found = await patient.examined()
    assert found["database: durability"].level is Level.FAIL
    assert "the server is read-only (read_only)" in found["database: durability"].what


async def test_limits_that_a_session_did_not_take_are_told(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pool, "_session", lambda *_: [])
    assert (await patient.examined())["database: limits"].level is Level.FAIL


class Shifted(Clock):
    """A machine whose clock is five minutes fast."""

    def now(self) -> datetime:
        return super().now() + timedelta(minutes=5)


async def test_a_clock_five_minutes_off_fails_against_both_the_database_and_google(patient: Patient) -> None:
    found = (await patient.examined(clock=Shifted()))["clocks"]
    assert found.level is Level.FAIL
    assert found.what == "this machine's clock is 5 min ahead of the database's and Google's"


async def test_a_port_that_is_held_in_silence_may_be_a_daemons_that_hangs(patient: Patient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        number = silent.getsockname()[1]
        found = (await patient.with_(intake={"port": number}).examined())["API: port"]
    assert found.level is Level.FAIL
    assert "is in use but not responding: a daemon that hangs" in found.what
    assert f"ss -ltnp sport = :{number}" in found.remedy
    assert "systemctl restart mailerd" in found.remedy


async def test_a_port_that_another_program_holds_is_told(patient: Patient) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 smtp.example.com ESMTP ready\r\n")
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        number = server.sockets[0].getsockname()[1]
        found = (await patient.with_(intake={"port": number}).examined())["API: port"]
    assert found.level is Level.FAIL
    assert "is in use by another program" in found.what
    assert f"ss -ltnp sport = :{number}" in found.remedy


async def test_a_port_that_a_mailerd_holds_is_as_it_should_be(patient: Patient) -> None:
    async def alive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b'HTTP/1.0 200 OK\r\nServer: mailerd\r\n\r\n{"status": "alive"}')
        writer.close()

    async with await asyncio.start_server(alive, "127.0.0.1", 0) as server:
        number = server.sockets[0].getsockname()[1]
        await daemons(patient.database, "here").heartbeat()
        found = (await patient.with_(intake={"port": number}).examined())["API: port"]
    assert found.level is Level.PASS
    assert "a mailerd listens" in found.what


async def test_a_port_that_the_mailerd_of_another_database_holds_is_told(patient: Patient) -> None:
    async def alive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b'HTTP/1.0 200 OK\r\nServer: mailerd\r\n\r\n{"status": "alive"}')
        writer.close()

    async with await asyncio.start_server(alive, "127.0.0.1", 0) as server:
        number = server.sockets[0].getsockname()[1]
        await query(patient.database, "DELETE FROM daemons")
        found = (await patient.with_(intake={"port": number}).examined())["API: port"]
    assert found.level is Level.FAIL
    assert "is in use by the mailerd of another database" in found.what


async def test_a_socket_file_is_looked_at_in_the_place_of_the_port(patient: Patient, tmp_path: Path) -> None:
    answer = b'HTTP/1.0 200 OK\r\nServer: mailerd\r\n\r\n{"status": "alive"}'

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(answer)
        writer.close()

    async def found(path: Path) -> tuple[Level, str]:
        with socket.create_server(("127.0.0.1", 0)) as other:
            intake = {"unix_socket": str(path), "port": other.getsockname()[1]}
            all_ = await patient.with_(intake=intake).examined()
        assert "API: port" not in all_
        return all_["API: socket"].level, all_["API: socket"].what

    path = tmp_path / "s"
    assert await found(path) == (Level.PASS, f"{path} is free")
    assert await found(tmp_path / "no" / "s") == (
        Level.FAIL,
        f"{tmp_path}/no/s cannot be listened on: No such file or directory",
    )
    await daemons(patient.database, "here").heartbeat()
    async with await asyncio.start_unix_server(say, path):
        assert await found(path) == (Level.PASS, f"a mailerd listens on {path}")
        answer = b"220 smtp.example.com\r\n"
        assert await found(path) == (Level.FAIL, f"{path} is in use by another program")


async def test_a_daemon_that_can_store_nothing_is_told_with_what_it_says_of_its_database(patient: Patient) -> None:
    """Nothing that is asked from here shows a disk that is full."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        live = b"/live" in await reader.readline()
        reason = "the database accepts no writes: its disk or a table is full (1114); free disk space on its server"
        body = json.dumps({"status": "not ready", "reason": reason, "outage": "full"}).encode()
        head = b"HTTP/1.0 200 OK\r\nServer: mailerd\r\n\r\n{}" if live else (
            b"HTTP/1.0 503 Unavailable\r\nServer: mailerd\r\nContent-Type: application/json\r\n\r\n" + body
        )  # fmt: skip
        writer.write(head)
        writer.close()

    await query(patient.database, "DELETE FROM daemons")  # it cannot store its heartbeat either
    async with await asyncio.start_server(say, "127.0.0.1", 0) as server:
        found = (await patient.with_(intake={"port": server.sockets[0].getsockname()[1]}).examined())["API: port"]
    assert found.level is Level.FAIL
    assert "The database is full" in found.what
    assert found.remedy == "df -h /var/lib/mysql"


async def test_why_a_daemon_is_not_ready_is_said_whole_in_the_language_of_the_command() -> None:
    """The sentence is the daemon's: it is asked for in that language, and taken apart nowhere."""
    asked, why = list[bytes](), "数据库的表结构过旧；请运行 `mailerd migrate`; 等"

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        body = json.dumps({"status": "not ready", "reason": why}).encode()
        head = b"HTTP/1.0 200 OK\r\nServer: mailerd\r\n\r\n{}" if b"/live" in asked[-1] else (
            b"HTTP/1.0 503 Unavailable\r\nServer: mailerd\r\nContent-Type: application/json\r\n\r\n" + body
        )  # fmt: skip
        writer.write(head)
        writer.close()

    speak("zh")
    try:
        async with await asyncio.start_server(say, "127.0.0.1", 0) as server:
            intake = IntakeSettings(port=server.sockets[0].getsockname()[1])
            said = await machine._why_not_ready(intake)
    finally:
        speak("en")
    assert said == (why, "journalctl -u mailerd -p warning -n 50")
    assert b"Accept-Language: zh" in asked[-1]


async def test_an_address_that_is_not_this_machines_is_told(patient: Patient) -> None:
    found = (await patient.with_(intake={"host": "192.0.2.1"}).examined())["API: port"]
    assert found.level is Level.FAIL


async def test_credentials_that_others_can_read_are_told(patient: Patient) -> None:
    (patient.credentials / f"{ME}.json").chmod(0o644)
    patient.credentials.chmod(0o777)
    found = await patient.examined()
    assert found[ME].level is Level.FAIL
    assert found[ME].remedy.startswith("run: chmod 600 ")
    assert found["credentials folder"].level is Level.WARN


async def test_a_sign_in_that_google_no_longer_honours_is_told(patient: Patient) -> None:
    patient.google.revoke(ME)
    found = (await patient.examined())[ME]
    assert (found.level, found.remedy) == (Level.FAIL, f"mailerd auth login --sender {ME}")
    assert "expired or revoked" in found.what


async def test_scopes_that_do_not_suffice_are_told(patient: Patient) -> None:
    patient.google.set_scopes(ME, [METADATA])
    found = (await patient.examined())[ME]
    assert (found.level, found.remedy) == (
        Level.FAIL, f"run `mailerd auth login --sender {ME}` and allow gmail.compose"
    )  # fmt: skip
    patient.google.set_scopes(ME, [SEND])
    found = (await patient.examined())[ME]
    assert found.level is Level.WARN
    assert "this scope cannot verify the mailbox owner" in found.what


async def test_another_accounts_sign_in_is_told(patient: Patient) -> None:
    (patient.credentials / f"{ME}.json").rename(patient.credentials / "sales@example.com.json")
    found = (await patient.examined())["sales@example.com"]
    assert found.level is Level.FAIL
    assert f"opens the mailbox {ME}" in found.what


async def test_a_google_that_hangs_is_told_within_its_bound(patient: Patient) -> None:
    patient.google.fault(Fault(kind="hang_before", method="token", count=-1))
    started = own_time()
    found = (await patient.examined())[ME]
    assert own_time() - started < 20
    assert found.level is Level.FAIL
    assert "firewall" in found.remedy


async def test_a_domains_key_is_tried_with_the_senders_that_are_known(patient: Patient) -> None:
    (patient.credentials / f"{ME}.json").unlink()
    sign_in_domain(patient)
    found = await patient.examined()
    assert found["@example.com"].level is Level.WARN
    assert "mailerd check --sender someone@example.com" in found["@example.com"].remedy
    assert (await patient.examined(sender="ada@example.com"))["ada@example.com"].level is Level.PASS
    await post(patient.database, sender="you@example.com", recipients=1)
    assert "draft mode" in (await patient.examined())["you@example.com"].what


def sign_in_domain(patient: Patient) -> None:
    import json  # noqa: PLC0415 - for this alone

    blob = patient.google.add_mailbox("@example.com", kind="service_account")
    descriptor = os.open(patient.credentials / "@example.com.json", os.O_CREAT | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(blob, file)


async def test_a_sender_without_a_file_and_an_empty_folder_are_told(patient: Patient) -> None:
    assert (await patient.examined(sender="x@example.org"))["x@example.org"].level is Level.FAIL
    (patient.credentials / f"{ME}.json").unlink()
    assert (await patient.examined())["mailboxes"].level is Level.FAIL


async def test_aliases_are_told_and_those_of_nobody_fail(patient: Patient) -> None:
    aliases = {"sales@example.com": ME, "lost@example.com": "gone@example.com"}
    found = await patient.with_(gmail={"aliases": aliases}).examined()
    assert found["sales@example.com"].level is Level.PASS
    assert found["lost@example.com"].level is Level.FAIL


async def test_a_call_that_blocks_the_whole_process_does_not_hold_up_the_answer(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()

    async def stuck(*_: object) -> list[CheckResult]:
        released.wait(30)  # a system call on a dead drive: it blocks the loop and cannot be cancelled
        return []

    monkeypatch.setattr(machine, "systemd", stuck)
    runner = CheckRunner(patient.known, None, within=1.0)
    started = time.monotonic()
    found, ended = await asyncio.to_thread(runner.examine)
    took = time.monotonic() - started
    released.set()
    (checks,) = (it for it in threading.enumerate() if it.name == "checks")
    await asyncio.to_thread(checks.join, 60)  # it asks the stand-in still, which runs in this loop
    assert not checks.is_alive()
    assert took < 20, "the system call takes 30 s"
    assert not ended
    assert next(each for each in found if each.check == "systemd").level is Level.FAIL


async def test_a_dead_drive_costs_its_own_line_only(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    monkeypatch.setattr(machine, "disks", lambda _: released.wait(30))
    found, _ = await asyncio.to_thread(CheckRunner(patient.known, None, each_within=5.0).examine)
    released.set()
    by = {each.check: each for each in found}
    assert by["disk"].level is Level.FAIL
    assert "not finished after 5 s" in by["disk"].what
    assert by[ME].level is Level.PASS


async def test_a_bug_of_the_doctors_own_is_a_line_too(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(_: object) -> list[CheckResult]:
        raise KeyError("oops")

    monkeypatch.setattr(machine, "disks", wrong)
    found = (await patient.examined())["disk"]
    assert found.level is Level.FAIL
    assert "KeyError: 'oops'" in found.what


async def test_what_googles_standard_tier_will_take_is_told_until_the_tier_is_named(patient: Patient) -> None:
    other = "other@example.com"
    await post(patient.database, sender=other)
    found = await patient.with_(pace={"units_per_minute": 15_000}).examined()
    told = found["sending limits"]
    assert told.level is Level.WARN
    assert "2027-04-01" in told.what
    assert "136 -> 54 messages per minute" in told.what
    assert told.remedy.startswith("set pace.units_per_minute to 6000; or ")
    assert 'pace.tier = "scaled"' in told.remedy
    assert 'pace.tier = "internal"' in told.remedy
    assert "https://developers.google.com/workspace/guides/quota-usage-tiers" in told.remedy
    assert f"sending limits of {other}" not in found, "it has no limit of its own"
    for tier in ("scaled", "internal"):
        assert "sending limits" not in await patient.with_(pace={"units_per_minute": 15_000, "tier": tier}).examined()
    assert "sending limits" not in await patient.with_(pace={"units_per_minute": 15_000, "per_minute": 50}).examined()


async def test_a_sender_whose_own_limit_the_standard_tier_will_lower_is_named(patient: Patient) -> None:
    for sender, units in (("fast@example.com", 12_000), ("slow@example.com", 6000), ("free@example.com", 0)):
        await post(patient.database, sender=sender)
        await query(patient.database, "UPDATE senders SET units_per_minute = %s WHERE email = %s", units, sender)
    paced = patient.with_(pace={"units_per_minute": 6000})
    warned = {
        check: each.what for check, each in (await paced.examined()).items() if check.startswith("sending limits")
    }
    assert list(warned) == ["sending limits of fast@example.com"]
    assert "109 -> 54 messages per minute" in warned["sending limits of fast@example.com"]
    assert not [
        check for check in await paced.with_(pace={"tier": "scaled"}).examined() if check.startswith("sending limits")
    ]
