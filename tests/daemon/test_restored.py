"""A backup is restored while messages were sent since: nothing goes out twice, and everything goes out once."""

import asyncio
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from yarl import URL

from mailerd.config import Settings
from mailerd.core.states import Proof
from mailerd.sandbox import mariadb
from mailerd.sandbox.google import COMPOSE, METADATA, FakeGoogle, RunningServer
from mailerd.store.db.database import Database
from mailerd.store.queue import recovery
from mailerd.store.queue.rate_limits import DefaultLimits
from mailerd.store.queue.recovery import DaemonRunsError, RestoredQueue
from mailerd.store.read.audit import audit
from mailerd.store.write.event_feed import EventFeed, UnknownPositionError
from mailerd.store.write.sender_actions import SenderActions
from tests.store.queue.test_claim import FREE
from tests.support.daemon import running, settings, sign_in
from tests.support.dialect import is_mariadb
from tests.support.eventually import eventually
from tests.support.heard import Heard
from tests.support.holding import holding
from tests.support.rows import post, query, rows_read, states

ME, BLIND = "me@example.com", "blind@example.com"


@pytest.fixture
def known(database_url: str, served: RunningServer, credentials: Path, google: FakeGoogle) -> Settings:
    sign_in(google, credentials, ME, scopes=(COMPOSE, METADATA))
    sign_in(google, credentials, BLIND, scopes=(COMPOSE,))
    return settings(
        database_url, served, credentials, gmail={"request_timeout": 0.5}, runner={"lease": 4, "poll_interval": 0.1}
    )


def tool(database_url: str, *words: str) -> list[str]:
    """Each server's own: MariaDB's tool writes columns that MySQL generates, and MySQL refuses them at the restore."""
    url, (name, *options) = URL(database_url), words
    beside, own = Path(mariadb.find().path).parent, f"mysql{name.removeprefix('-')}"
    programs = [f"mariadb{name}"] if is_mariadb() else [f"{beside}/{own}", own]
    program = next(filter(None, map(shutil.which, programs)))
    plain = ["--skip-ssl"] if is_mariadb() else ["--ssl-mode=DISABLED", "--get-server-public-key"]
    return [
        program, *options, "--protocol=tcp", *plain, f"--host={url.host}", f"--port={url.port}",
        f"--user={url.user}", f"--password={url.password}", url.path.strip("/"),
    ]  # fmt: skip


def dump(database_url: str) -> bytes:
    # MySQL's tool asks for the privilege RELOAD, unless positions of replication are left out.
    own = () if is_mariadb() else ("--set-gtid-purged=OFF",)
    words = tool(database_url, "-dump", "--single-transaction", "--no-tablespaces", *own)
    done = subprocess.run(words, check=False, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def load(database_url: str, backup: bytes) -> None:
    subprocess.run(tool(database_url, ""), input=backup, check=True, timeout=60)


async def test_messages_that_were_sent_since_the_backup_are_found_and_the_rest_goes_out(
    known: Settings, database: Database, database_url: str, google: FakeGoogle
) -> None:
    job = await post(database, recipients=6)
    await query(database, "UPDATE job_recipients SET due_at = UTC_TIMESTAMP(6) + INTERVAL 1 HOUR WHERE seq > 3")
    backup = await asyncio.to_thread(dump, database_url)
    async with running(known, Heard()) as daemon:
        daemon.runner.wake()
        await eventually(lambda: sent(google, 4))
    await asyncio.to_thread(load, database_url, backup)
    assert await states(database, job) == {"waiting": 6}, "the backup knows of none"
    queue = RestoredQueue(database)
    assert await queue.open_messages() == {ME: 6}
    assert await queue.doubt_all() == 6
    assert await queue.doubt_all() == 0
    assert (await states(database, job)) == {"unsure": 6}
    assert (await audit(database))[1] == []
    async with running(known, Heard()):
        await eventually(lambda: sent(google, 6))
        await eventually(lambda: ended(database, job))
    assert not google.duplicates()
    assert len(google.sent) == 6
    proofs = await query(database, "SELECT proof, COUNT(*) FROM job_recipients GROUP BY proof")
    assert dict(proofs) == {Proof.SEEN.value: 4, Proof.ANSWERED.value: 2}


async def test_a_sign_in_that_may_not_look_leaves_it_to_a_person_and_a_better_one_does_not(
    known: Settings, database: Database, google: FakeGoogle, credentials: Path
) -> None:
    job = await post(database, sender=BLIND, recipients=2)
    queue = RestoredQueue(database)
    assert await queue.doubt_all() == 2
    async with running(known, Heard()):
        await eventually(lambda: for_a_person(database, 2))
    assert not google.sent
    sign_in(google, credentials, BLIND, scopes=(COMPOSE, METADATA))
    assert await queue.doubt_all() == 2, "they are looked for again"
    async with running(known, Heard()):
        await eventually(lambda: ended(database, job))
    assert len(google.sent) == 2


async def test_a_message_that_was_in_doubt_then_is_not_called_sent_since_that_draft_is_gone_now(
    known: Settings, database: Database, google: FakeGoogle
) -> None:
    """Since the backup the draft was found, its send refused for a day, and the draft deleted."""
    await post(database, sender=BLIND, recipients=1)
    await query(
        database,
        "UPDATE job_recipients SET status = 'unsure', mode = 'draft', draft_id = 'gone', unanswered = 1, "
        "lease_until = UTC_TIMESTAMP(6), attempts = 1",
    )
    queue = RestoredQueue(database)
    assert await queue.open_messages() == {BLIND: 1}
    assert await queue.doubt_all() == 1
    assert await queue.doubt_all() == 0
    async with running(known, Heard()):
        await eventually(lambda: for_a_person(database, 1))
    assert not google.sent


async def test_beside_a_daemon_that_runs_nothing_is_changed(known: Settings, database: Database) -> None:
    await post(database, sender="nobody@example.com", recipients=2)
    async with running(known, Heard()):
        with pytest.raises(DaemonRunsError, match="stop it, then repeat"):
            await RestoredQueue(database).doubt_all()


async def test_a_daemon_that_was_stopped_before_the_restore_is_not_waited_for(
    database: Database, database_url: str
) -> None:
    """The backup has it as one that runs: it is known to have ended by its process and by its connections."""
    await post(database, recipients=2)
    ended = await asyncio.create_subprocess_exec("true")
    assert await ended.wait() == 0
    await query(
        database,
        "INSERT INTO daemons (id, host, pid, version, started_at, heartbeat_at) "
        "VALUES ('d', %s, %s, '0', UTC_TIMESTAMP(6), UTC_TIMESTAMP(6))",
        socket.gethostname(), ended.pid,
    )  # fmt: skip
    assert await RestoredQueue(database).doubt_all() == 2
    async with holding(database_url, "SELECT 1"):  # a daemon in a container, say, of the same name
        with pytest.raises(DaemonRunsError, match="wait until that is 30 s ago"):
            await RestoredQueue(database).doubt_all()
    await query(database, "UPDATE daemons SET host = 'elsewhere'")
    with pytest.raises(DaemonRunsError):
        await RestoredQueue(database).open_messages()


async def test_a_reader_of_the_feed_is_told_of_what_it_has_seen_and_is_lost_however_late_it_comes(
    database: Database, database_url: str
) -> None:
    feed, senders = EventFeed(database, timeout=5), SenderActions(database, DefaultLimits(FREE))
    await senders.pause(ME, lasts=None, reason="before the backup", actor="x")
    last = (await feed.page(after=0, limit=9)).next_after
    backup = await asyncio.to_thread(dump, database_url)
    await senders.resume(ME, actor="x")
    seen = (await feed.page(after=last, limit=9)).next_after
    await asyncio.to_thread(load, database_url, backup)
    await RestoredQueue(database).doubt_all()
    await senders.resume(ME, actor="x")
    with pytest.raises(UnknownPositionError, match=f"after={last},"):
        await feed.page(after=seen, limit=9)
    assert len((await feed.page(after=last, limit=9)).events) == 1


async def test_each_message_is_read_once_however_many_there_are_and_have_been(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "_ROWS_AT_ONCE", 10)
    for _ in range(3):
        await post(database, recipients=1000)
    await query(database, "UPDATE jobs SET status = 'completed', finished_at = UTC_TIMESTAMP(6), next_claim_at = NULL")
    await query(database, "UPDATE job_recipients SET status = 'sent', sent_at = UTC_TIMESTAMP(6), proof = 'answered'")
    await post(database, recipients=400)
    for number in range(100):
        await post(database, sender=f"{number}@example.com", recipients=1)
    for_a_person = "UPDATE job_recipients SET status = 'unsure', mode = 'direct' WHERE seq > 350 AND status = 'waiting'"
    await query(database, for_a_person)
    before = await rows_read(database)
    assert await RestoredQueue(database).doubt_all() == 500
    assert await rows_read(database) - before < 10_000
    assert await query(database, "SELECT status, lease_until IS NULL, COUNT(*) FROM job_recipients GROUP BY 1, 2") == [
        ("sent", 1, 3000), ("unsure", 0, 500)
    ]  # fmt: skip


async def sent(google: FakeGoogle, messages: int) -> bool:
    return len(google.sent) >= messages


async def ended(database: Database, job: str) -> bool:
    return await query(database, "SELECT status FROM jobs WHERE id = %s", job) == [("completed",)]


async def for_a_person(database: Database, messages: int) -> bool:
    waits = "SELECT COUNT(*) FROM job_recipients WHERE status = 'unsure' AND lease_until IS NULL"
    return await query(database, waits) == [(messages,)]


async def test_a_message_with_a_later_time_of_its_own_keeps_it(database: Database) -> None:
    job = await post(database, recipients=3)
    await query(database, "UPDATE job_recipients SET due_at = UTC_TIMESTAMP(6) + INTERVAL 7 DAY WHERE seq > 0")
    queue = RestoredQueue(database)
    assert await queue.open_messages() == {ME: 1}
    assert await queue.doubt_all() == 1
    assert await states(database, job) == {"unsure": 1, "waiting": 2}
