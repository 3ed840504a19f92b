"""Three daemons share one endpoint and are killed again and again: every event comes, and the feed has no gap.

KILLS=50 makes it fifty; `make test` has a few.
"""

import asyncio
import json
import os
import random
from collections import Counter
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest

from mailerd.core.states import ImpossibleRequestError, JobChange
from mailerd.core.webhooks import EventType
from mailerd.sandbox.google import FakeGoogle, FakeLimits, RunningServer, serve
from mailerd.store.db.database import Database
from mailerd.store.write.event_feed import EventFeed, FeedEvent
from mailerd.store.write.job_actions import JobActions
from tests.chaos.child import Child
from tests.support.daemon import sign_in
from tests.support.eventually import eventually
from tests.support.rows import post, query
from tests.webhooks.conftest import endpoint
from tests.webhooks.receiver import Receiver

KILLS: Final = int(os.environ.get("KILLS", "6"))
LEAST_EVENTS: Final = 10 * KILLS
_REFUSED: Final = "{% include 'footer' %}"
"""A template that fails each of its messages, which makes an event of each."""


def config(folder: Path, database_url: str, google: RunningServer) -> Path:
    file = folder / "mailerd.toml"
    file.touch(mode=0o600)
    file.write_text(f"""
database.url = "{database_url}"
intake.port = 0
runner = {{ poll_interval = 0.1, lease = 8 }}
pace = {{ units_per_minute = 0, per_day = 0 }}
retention.events = 0
[gmail]
api_root = "{google.url}"
token_uri = "{google.token_uri}"
request_timeout = 1
credentials_dir = "credentials"
[webhooks]
allow_http = true
ports = []
allow_networks = "127.0.0.0/8"
timeout = 1
retries = [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4]
""")
    return file


async def misbehaves_at_times(receiver: Receiver, writer: asyncio.StreamWriter) -> None:
    """Fails, takes the event and breaks off before it has said so, or is ordinary."""
    what = receiver.dice.random()
    if what < 0.1:
        writer.write(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")
        return
    receiver.taken[receiver.posts[-1].uid] += 1
    writer.write(b"HTTP/1.1 2" if what < 0.2 else b"HTTP/1.1 204 OK\r\n\r\n")


async def make_events(database: Database, stop: asyncio.Event) -> None:
    """Messages that fail or are sent in the daemons, and what a person asks; no more than are delivered."""
    actions = JobActions(database, timeout=10, late_arrival=timedelta(seconds=60))
    made = 0
    while not stop.is_set() or made < LEAST_EVENTS:
        made += 5  # one of each message that fails, and those of the jobs
        await eventually(lambda: few_wait(database), within=120)
        job = await post(database, recipients=5, text=_REFUSED)
        await post(database, recipients=2)
        other = await post(database, recipients=2)
        for change in (JobChange.PAUSE, JobChange.RESUME, JobChange.CANCEL):
            with suppress(ImpossibleRequestError):  # its messages have gone by then
                await actions.apply(other, change, actor="test")
        assert job


async def few_wait(database: Database) -> bool:
    ((messages,),) = await query(database, "SELECT COUNT(*) FROM job_recipients WHERE status IN ('waiting', 'sending')")
    ((events,),) = await query(database, "SELECT COUNT(*) FROM webhook_deliveries WHERE status <> 'delivered'")
    return bool(messages + events < 60)


async def read_along(database: Database, stop: asyncio.Event) -> list[FeedEvent]:
    """What a client of the feed sees, until `stop` and once more."""
    feed, found = EventFeed(database, timeout=10), list[FeedEvent]()
    while True:
        last = stop.is_set()
        while page := (await feed.page(after=found[-1].position if found else 0, limit=20)).events:
            found += page
        if last:
            return found
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), 0.05)


async def all_delivered(database: Database) -> bool:
    ((messages,),) = await query(
        database, "SELECT COUNT(*) FROM job_recipients WHERE status IN ('waiting', 'sending', 'unsure')"
    )
    rows = await query(
        database,
        "SELECT (SELECT COUNT(*) FROM events), (SELECT last FROM event_positions), "
        "(SELECT MIN(position) FROM webhooks), "
        "(SELECT COUNT(*) FROM webhook_deliveries WHERE status = 'delivered')",
    )
    return messages == 0 and len(set(rows[0])) == 1


@pytest.mark.slow
async def test_every_event_comes_whoever_dies(
    database: Database, database_url: str, receiver: Receiver, tmp_path: Path
) -> None:
    google = FakeGoogle(FakeLimits(units_per_minute=0, project_units_per_minute=0, per_day=0))
    sign_in(google, tmp_path / "credentials")
    await endpoint(database, receiver, types=list(EventType))
    receiver.behaviour = misbehaves_at_times
    dice, stop = random.Random(KILLS), asyncio.Event()
    async with serve(google) as served:
        file = config(tmp_path, database_url, served)
        children = [Child(name, config=file, port=0) for name in ("one", "two", "three")]
        try:
            for child in children:
                child.start()
            making = asyncio.create_task(make_events(database, stop))
            reading = asyncio.create_task(read_along(database, stop))
            for _ in range(KILLS):
                await more_posts(receiver, dice.randint(5, 25))
                child = dice.choice(children)
                child.kill()
                child.start()
            stop.set()
            await making
            await eventually(lambda: all_delivered(database), within=150)
            along = await reading
        finally:
            for child in children:
                child.kill()
    uids = [uid for (uid,) in await query(database, "SELECT uid FROM events ORDER BY position")]
    seen = await read_along(database, stop)
    assert [it.position for it in seen] == list(range(1, len(uids) + 1)), "the feed has no gap"
    assert [it.uid for it in seen] == uids, "and is the table"
    assert along == seen[: len(along)], "also for one who read along"
    assert len(set(uids)) == len(uids) >= LEAST_EVENTS
    assert set(receiver.taken) == set(uids), "every event came at least once, and nothing else"
    await tally(database, receiver, uids)


async def more_posts(receiver: Receiver, number: int) -> None:
    """Wait until so many more have come: deliveries go on, whoever was killed."""
    wanted = len(receiver.posts) + number
    async with asyncio.timeout(120):
        while len(receiver.posts) < wanted:
            receiver.came.clear()
            await receiver.came.wait()


async def tally(database: Database, receiver: Receiver, uids: list[str]) -> None:
    """Every row tells of its event in full: messages that failed or were sent, jobs and what was asked of them."""
    counted = dict(await query(database, "SELECT type, COUNT(*) FROM events GROUP BY type"))
    ((failed,),) = await query(database, "SELECT COUNT(*) FROM job_recipients WHERE status = 'failed'")
    ((finished,),) = await query(database, "SELECT COUNT(*) FROM jobs WHERE finished_at IS NOT NULL")
    asked = dict(await query(database, "SELECT action, COUNT(*) FROM job_actions WHERE changed = 1 GROUP BY action"))
    sent = await query(database, "SELECT id FROM job_recipients WHERE status = 'sent'")
    told = Counter[int]()
    for (data,) in await query(database, "SELECT data FROM events WHERE type = 'recipients.sent'"):
        told.update(it["recipient_id"] for it in json.loads(data)["recipients"])
    undone = await query(database, "SELECT recipient_id FROM attempts WHERE event = 'undone'")
    assert told - Counter(id_ for (id_,) in undone) == Counter(id_ for (id_,) in sent), "each sent message is told once"
    assert counted["recipient.failed"] == failed
    assert counted["job.finished"] == finished
    assert (counted["job.paused"], counted["job.cancelled"]) == (asked["pause"], asked["cancel"])
    twice = sum(times > 1 for times in receiver.taken.values())
    said = (
        f"{KILLS} kills, {len(uids)} events, {len(sent)} sent, {len(receiver.posts)} posts, {twice} came more than once"
    )
    print(said)  # noqa: T201
