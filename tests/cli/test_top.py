"""`mailerd top` and `mailerd jobs`: what fits into a window, and what is said while the database is away."""

import asyncio
import json
import re
import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from mailerd.cli import top
from mailerd.cli.top import Snapshot, page, read_snapshot, sparkline, split_rows
from mailerd.config import DatabaseSettings, Live, Settings
from mailerd.events.process import StoreEvents
from mailerd.sandbox.google import FakeGoogle, FakeLimits, serve
from mailerd.sandbox.mariadb import Server
from mailerd.store.db.database import Database
from mailerd.store.db.migrate import migrate
from mailerd.store.queue.rate_limits import default_limits
from mailerd.store.read.history import MessageFailure
from mailerd.store.read.stats import StatsReader
from mailerd.store.write.sender_actions import SenderActions
from tests.chaos.child import PYTHON
from tests.chaos.place import mailerd
from tests.support.daemon import running, settings, sign_in
from tests.support.heard import Heard
from tests.support.rows import post, query
from tests.support.terminal import terminal

TERMS = default_limits(Settings())


@pytest.fixture
async def config(database_url: str, tmp_path: Path) -> Path:
    """A configuration with an empty database that has our tables."""
    events = StoreEvents(Heard())
    database = Database(DatabaseSettings(url=database_url), events=events)
    await migrate(database, events=events)
    await database.close()
    file = tmp_path / "mailerd.toml"
    file.write_text(f"[database]\nurl = {json.dumps(database_url)}\nconnect_timeout = 1\nstatement_timeout = 3\n")
    return file


@pytest.fixture
async def tables(config: Path, database_url: str) -> AsyncIterator[Database]:
    del config  # its fixture has made our tables
    database = Database(DatabaseSettings(url=database_url), events=StoreEvents(Heard()))
    yield database
    await database.close()


async def test_top_shows_senders_jobs_failures_and_daemons(database_url: str, tmp_path: Path) -> None:
    google, heard, where = FakeGoogle(FakeLimits(latency_s=0)), Heard(), tmp_path / "credentials"
    where.mkdir()
    async with serve(google) as gmail, running(settings(database_url, gmail, where), heard) as daemon:
        job = await post(daemon.database, recipients=4)
        daemon.runner.wake()
        await heard.wait_for("sender_paused")
        console = Console(width=160, record=True, force_terminal=False)
        console.print(page(await read_snapshot(StatsReader(daemon.database, Live(TERMS))), width=160, height=50))
    text = console.export_text()
    for part in (
        job,
        "me@example.com",
        "no credentials",
        "mailerd auth login",
        "0/4",
        "requeued",
        "seen",
        "1 job, 4 waiting",
        "0/54",
    ):
        assert part in text
    assert f"{datetime.now(UTC):%Y-%m-%d}" in text


@pytest.mark.parametrize("width, height", [(80, 24), (100, 30), (160, 50), (60, 16)])
async def test_the_page_fits_into_its_window_and_no_id_is_cut(tables: Database, width: int, height: int) -> None:
    jobs = [await post(tables, sender=f"a-long-name-of-a-mailbox-{n}@example.com", recipients=1200) for n in range(14)]
    cause = "the key of the service account was taken back by somebody, and nobody was told of it at all"
    await query(
        tables,
        "INSERT INTO attempts (recipient_id, attempt, at, event, daemon_id, claim_token, error) "
        "SELECT id, 1, UTC_TIMESTAMP(6), 'failed', 'd', '', %s FROM job_recipients LIMIT 30",
        cause,
    )
    console = Console(width=width, height=height, record=True, force_terminal=False)
    console.print(page(await read_snapshot(StatsReader(tables, Live(TERMS))), width=width, height=height), crop=False)
    lines = console.export_text().splitlines()
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    titles = [line.split(" ─")[0].split(" (")[0] for line in lines if line.endswith("──")]
    assert titles == ["Health", "Senders", "Jobs", "Recent problems"]
    assert sum(any(job in line for job in jobs) for line in lines) >= 2
    assert any("0/1,200" in line for line in lines)
    assert any("0/2,000" in line for line in lines)


async def test_no_daemon_is_the_first_thing_that_the_page_says_and_no_sender_is_said_to_go(tables: Database) -> None:
    await post(tables, recipients=3)
    assert (
        "No daemon runs; 3 messages wait. -> systemctl start mailerd, or mailerd run"
        in shown(await read_snapshot(StatsReader(tables, Live(TERMS)))).splitlines()[1]
    )
    await query(
        tables,
        "INSERT INTO daemons (id, host, pid, version, started_at, heartbeat_at) SELECT 'dead', 'h', 1, '0', "
        "UTC_TIMESTAMP(6), UTC_TIMESTAMP(6) - INTERVAL 155 SECOND UNION ALL SELECT 'gone', 'h', 2, '0', "
        "UTC_TIMESTAMP(6), UTC_TIMESTAMP(6) - INTERVAL 500 SECOND",
    )
    text = shown(await read_snapshot(StatsReader(tables, Live(TERMS))))
    assert re.search(r"No daemon responds, the last one was seen 2 min ago; 3 messages wait", text.splitlines()[1])
    assert "active" not in text
    assert "h:1" not in text, "the dead are not listed for long"
    await query(tables, "UPDATE daemons SET heartbeat_at = UTC_TIMESTAMP(6) WHERE id = 'dead'")
    text = shown(await read_snapshot(StatsReader(tables, Live(TERMS))))
    assert "o daemon" not in text
    await query(tables, "UPDATE daemons SET stopped_at = UTC_TIMESTAMP(6) WHERE id = 'dead'")
    assert "No daemon responds" in shown(await read_snapshot(StatsReader(tables, Live(TERMS))))


async def test_what_is_stale_has_its_age_and_nothing_of_it_is_green(tables: Database) -> None:
    await post(tables, recipients=3)
    console = Console(width=100, record=True, force_terminal=True, color_system="standard")
    console.print(
        page(
            await read_snapshot(StatsReader(tables, Live(TERMS))),
            width=100,
            height=30,
            trouble="the database is away",
            age=7.2,
        )
    )
    styled = console.export_text(styles=True)
    assert "database  last page read in " in styled
    assert ", 7 s ago" in styled
    assert "ago, 7 s ago" not in styled
    health = styled.split("Senders")[0]
    assert "\x1b[32m" not in health
    assert "active" not in styled


async def test_what_fails_now_is_said_and_that_all_is_well(tables: Database) -> None:
    job = await post(tables, recipients=2)
    await query(
        tables,
        "INSERT INTO daemons (id, host, pid, version, started_at, heartbeat_at) "
        "VALUES ('d', 'h', 1, '0', UTC_TIMESTAMP(6), UTC_TIMESTAMP(6))",
    )
    assert "Everything is working." in shown(await read_snapshot(StatsReader(tables, Live(TERMS))))
    for number, error in enumerate(("a cause of before", "Google answered 503")):
        await query(
            tables,
            "INSERT INTO attempts (recipient_id, attempt, at, event, daemon_id, claim_token, error) "
            "SELECT id, 1, UTC_TIMESTAMP(6), 'released', 'd', '', %s FROM job_recipients WHERE seq = %s "
            "AND job_id = %s",
            error, number, job,
        )  # fmt: skip
    text = shown(await read_snapshot(StatsReader(tables, Live(TERMS))))
    assert "me@example.com: the last 2 attempts failed: Google answered 503 -> mailerd explain" in text
    assert "Everything is working." not in text


async def test_what_failed_before_any_attempt_is_not_called_nothing(tables: Database) -> None:
    await post(tables, recipients=3)
    await query(tables, "UPDATE job_recipients SET status = 'failed', error = 'no address'")
    text = shown(await read_snapshot(StatsReader(tables, Live(TERMS))))
    assert "no errors in 24 h" not in text
    assert "details of failed messages: `mailerd jobs show ID`" in text


def shown(snapshot: Snapshot) -> str:
    console = Console(width=140, record=True, force_terminal=False)
    console.print(page(snapshot, width=140, height=50))
    return console.export_text()


def test_lines_are_shared_out_evenly_and_what_needs_little_gets_it_all() -> None:
    assert split_rows(13, [5, 30, 30]) == [5, 4, 4]
    assert split_rows(13, [2, 30, 1]) == [2, 10, 1]
    assert split_rows(100, [2, 3, 1]) == [2, 3, 1]
    assert split_rows(0, [2, 0, 1]) == [1, 0, 1]


async def test_a_consumer_mailbox_and_a_reserve_are_shown_with_what_really_holds(tables: Database) -> None:
    await post(tables, sender="me@gmail.com", recipients=1)
    await post(tables, sender="me@example.com", recipients=1)
    await SenderActions(tables, TERMS).change("me@example.com", {"per_day": 1000, "reserve": 100}, actor="T")
    seen = {
        sender.email: sender.per_day for sender in (await read_snapshot(StatsReader(tables, Live(TERMS)))).stats.senders
    }
    assert seen == {"me@gmail.com": 500, "me@example.com": 900}


async def test_top_says_that_the_database_is_away_and_goes_on_when_it_is_back(
    config: Path, tables: Database, mariadb: Server, tmp_path: Path
) -> None:
    await post(tables, recipients=7)
    command = [PYTHON, "-m", "mailerd", "top", "--every", "0.2", "--config", str(config)]
    async with terminal(command, columns=80, rows=24, folder=tmp_path) as screen:
        await screen.shows("1 job, 7 waiting")
        mariadb.freeze()
        try:
            await screen.shows("the database has been unreachable for")
            await screen.shows("check that the server is running")
            assert "1 job, 7 waiting" in screen.text, "what was seen last stays"
        finally:
            mariadb.thaw()
        screen.forget()
        await screen.shows("responds, ")
        mariadb.kill()
        await screen.shows("Can't connect")
        mariadb.start()
        screen.forget()
        await screen.shows("responds, ")
        assert "Traceback" not in screen.text
        screen.process.send_signal(signal.SIGINT)
        assert await screen.ends() == 0


async def test_the_page_of_a_schema_that_is_older_ends_with_the_remedy(
    config: Path, tables: Database, tmp_path: Path
) -> None:
    await query(tables, "DELETE FROM schema_version")
    await query(tables, "DROP TABLE senders")
    command = [PYTHON, "-m", "mailerd", "top", "--config", str(config)]
    async with terminal(command, columns=80, rows=24, folder=tmp_path) as screen:
        await screen.shows("run `mailerd migrate`")
        assert await screen.ends() == 1


async def test_watch_waits_for_a_database_that_is_away_and_ends_with_the_job(
    config: Path, tables: Database, mariadb: Server, tmp_path: Path, database_url: str
) -> None:
    job = await post(tables, recipients=3)
    command = [PYTHON, "-m", "mailerd", "jobs", "watch", job, "--config", str(config)]
    async with terminal(command, columns=100, rows=24, folder=tmp_path) as screen:
        await screen.shows("0/3")
        mariadb.kill()
        await screen.shows("the database is unavailable")
        mariadb.start()
        google, heard, where = FakeGoogle(FakeLimits(latency_s=0)), Heard(), tmp_path / "credentials"
        sign_in(google, where)
        async with serve(google) as gmail, running(settings(database_url, gmail, where), heard):
            await screen.shows("completed, 3 recipients: 3 sent")
        assert await screen.ends() == 0


async def test_watch_says_in_a_pipe_too_that_the_database_is_away(
    config: Path, tables: Database, mariadb: Server, tmp_path: Path
) -> None:
    job = await post(tables, recipients=1)
    watching = await asyncio.create_subprocess_exec(
        PYTHON, "-m", "mailerd", "jobs", "watch", job, "--config", str(config), cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert watching.stdout is not None
    try:
        async with asyncio.timeout(60):
            assert b"No daemon has been seen" in await watching.stdout.readline()
            mariadb.kill()
            assert await watching.stdout.readline() == b"Waiting: the database is unavailable.\n"
            mariadb.start()
            assert b"No daemon has been seen" in await watching.stdout.readline()
    finally:
        watching.kill()
        await watching.wait()


async def test_the_list_of_jobs_keeps_ids_whole_in_a_pipe_and_what_is_no_id_is_unknown(
    config: Path, tables: Database
) -> None:
    sender = f"{'a-very-long-name-of-a-mailbox-' * 2}@a-long-domain.example.com"
    job = await post(tables, sender=sender, recipients=12_000)
    done = await mailerd(config, "jobs", "list")
    (line,) = (line for line in done.stdout.splitlines() if job in line)
    assert line.split()[:4] == [job, "sender", "paused", "0/12,000"]
    assert line.split()[-1] == sender
    for unknown in ("01M87G7H3X8…", "nothing"):
        told = await mailerd(config, "jobs", "show", unknown)
        assert told.returncode == 1
        assert f"job {unknown} not found" in told.stderr


async def test_q_leaves_the_page_and_the_terminal_is_as_it_was(config: Path, tables: Database, tmp_path: Path) -> None:
    await post(tables, recipients=7)
    command = [PYTHON, "-m", "mailerd", "top", "--every", "600", "--config", str(config)]
    async with terminal(command, columns=80, rows=24, folder=tmp_path) as screen:
        await screen.shows("1 job, 7 waiting")
        screen.press("q")
        await screen.ends()
        assert screen.process.returncode == 0
        assert screen.echoes


@pytest.mark.parametrize("leaves", ["q", "\x03"])
async def test_the_page_is_left_while_the_database_is_frozen_too(
    config: Path, tables: Database, mariadb: Server, tmp_path: Path, leaves: str
) -> None:
    await post(tables, recipients=7)
    command = [PYTHON, "-m", "mailerd", "top", "--every", "0.2", "--config", str(config)]
    async with terminal(command, columns=80, rows=24, folder=tmp_path) as screen:
        await screen.shows("1 job, 7 waiting")
        mariadb.freeze()
        try:
            await screen.shows("the database has not responded for")
            await screen.shows("check that the server is running")
            if leaves == "q":
                screen.press("q")
            else:
                screen.process.send_signal(signal.SIGINT)
            await screen.ends()
        finally:
            mariadb.thaw()
        assert screen.process.returncode == 0


async def test_the_first_line_tells_the_pace_and_the_end_and_the_second_who_has_to_do_what(tables: Database) -> None:
    job = await post(tables, recipients=300)
    await query(
        tables,
        "INSERT INTO daemons (id, host, pid, version, started_at, heartbeat_at) "
        "VALUES ('d', 'h', 1, '0', UTC_TIMESTAMP(6), UTC_TIMESTAMP(6))",
    )
    await query(
        tables,
        "INSERT INTO attempts (recipient_id, attempt, at, event, daemon_id, claim_token) "
        "SELECT id, 1, UTC_TIMESTAMP(6), 'sent', 'd', '' FROM job_recipients ORDER BY id LIMIT 10",
    )
    for ago, sent in ((0, 10), (20, 20)):
        await query(
            tables,
            "INSERT INTO tallies (minute, sender_email, daemon, sent) "
            "VALUES (UTC_TIMESTAMP() - INTERVAL SECOND(UTC_TIMESTAMP()) + 60 * %s SECOND, 'me@example.com', 'd', %s)",
            ago,
            sent,
        )
    text = shown(await read_snapshot(StatsReader(tables, Live(TERMS))))
    assert re.search(r"1 job, 300 waiting, 10 per minute, done about (\d\d-\d\d )?\d\d:\d\d$", text.splitlines()[0])
    assert re.search(r"^sent +[▁▂▃▄▅▆▇█ ]+ 30 in 1 h$", text, re.MULTILINE)
    assert re.search(rf"{job} .* 0/300 +0 +(\d\d-\d\d )?\d\d:\d\d", text)
    await query(
        tables,
        "UPDATE senders SET paused_until = UTC_TIMESTAMP(6) + INTERVAL 1 MINUTE, pause_cause = 'token_refused'",
    )
    text = shown(await read_snapshot(StatsReader(tables, Live(TERMS))))
    assert "done about" not in text.splitlines()[0]
    assert text.splitlines()[1] == (
        "me@example.com cannot send. Action needed: token refused -> mailerd auth login --sender me@example.com"
    )


def test_a_sparkline_shows_little_as_little_and_nothing_as_nothing() -> None:
    assert sparkline([0, 1, 50, 100]) == " ▁▄█"
    assert sparkline([0, 0]) == "  "
    assert not sparkline([])


async def test_what_was_cancelled_is_not_counted_as_sent(config: Path, tables: Database) -> None:
    job = await post(tables, recipients=5)
    await query(tables, "UPDATE job_recipients SET status = 'cancelled' WHERE seq > 1")
    await query(tables, "UPDATE job_recipients SET status = 'sent' WHERE seq <= 1")
    await query(tables, "UPDATE jobs SET status = 'cancelled', finished_at = UTC_TIMESTAMP(6)")
    (line,) = (line for line in (await mailerd(config, "jobs", "list")).stdout.splitlines() if job in line)
    sent = (await query(tables, "SELECT COUNT(*) FROM job_recipients WHERE status = 'sent'"))[0][0]
    assert line.split()[:3] == [job, "cancelled", f"{sent}/5"]
    assert f"{sent}/5" in shown(await read_snapshot(StatsReader(tables, Live(TERMS))))


def test_failures_for_one_reason_are_one_line_with_their_number() -> None:
    def failed(number: int, error: str) -> MessageFailure:
        return MessageFailure(
            datetime(2026, 11, 26, 9, 0, number, tzinfo=UTC), f"r{number}@example.com", number, error, "failed", "j"
        )

    found = top._grouped(
        [failed(5, "no such user"), failed(4, "no such user"), failed(3, "full"), failed(2, "no such user")]
    )
    assert [(it.to_email, it.error) for it in found] == [
        ("r5@example.com +1", "no such user"), ("r3@example.com", "full"), ("r2@example.com", "no such user")
    ]  # fmt: skip


@pytest.mark.parametrize("width, height", [(80, 40), (80, 18), (100, 24)])
async def test_no_remedy_is_cut_at_80_columns(tables: Database, width: int, height: int) -> None:
    sender = "a-mailbox-of-somebody@example.com"
    await post(tables, sender=sender)
    await query(
        tables, "UPDATE senders SET paused_until = '9999-12-31', pause_cause = 'manual', pause_reason = %s", "x" * 90
    )
    await query(
        tables,
        "INSERT INTO daemons (id, host, pid, version, started_at, heartbeat_at) "
        "VALUES ('d', 'h', 1, '0', UTC_TIMESTAMP(6), UTC_TIMESTAMP(6))",
    )
    shown = Console(width=width, record=True)
    shown.print(page(await read_snapshot(StatsReader(tables, Live(TERMS))), width=width, height=height))
    assert f"-> mailerd senders resume {sender}\n" in re.sub(" +\n", "\n", shown.export_text())
