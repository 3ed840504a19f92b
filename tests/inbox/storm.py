"""The storms of the inbox reader: its daemons are killed while notices of every kind arrive, and history is lost.

`python -m tests.inbox.storm [results|resent|person]` runs them at full size and prints what was seen. The suite runs
them small.
"""

import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from mailerd.sandbox.google import COMPOSE
from mailerd.sandbox.google.fake_limits import READONLY
from tests.chaos.place import SENDER, Place, Setting, place
from tests.inbox.place import TRUTH

SHARE: Final = 0.05
_KEY: Final = "CONCAT(r.job_id, '-', r.seq)"
_OF: Final = "job_recipients r ON r.id = a.recipient_id"
_READ_SINCE: Final = "SELECT 1 FROM mailboxes WHERE state = 'read' AND read_at > %s"
_OF_THE_DAY: Final = "SELECT SUM(messages + elsewhere) FROM sender_hours"
_BY_HAND: Final = "SELECT SUM(elsewhere) FROM sender_hours"
_CLASSES: Final = (
    "hard", "soft", "blocked", "delayed", "exchange", "postfix", "exim", "qmail", "reply", "reply_of_other",
    "auto_reply", "claims_limit",
)  # fmt: skip
_FORGED: Final = ("forged_hard", "forged_limit", "forged_hard_by_address", "forged_limit_by_address")
_HOSTILE: Final = ("5.4.5+", "p=dailylimitexceeded+", "answer/22839+", "550-5.4.5-")
"""How addresses begin that read like a limit notice, in SHARE of all messages."""
_OF_HOSTILE: Final = ("dead_domain", "delayed", "rate", "soft")
"""What comes back for them in Google's own words."""
_OWNERS: Final = ("limit", "limit_bare", "limit_report", "hard", "soft", "blocked", "delayed")
"""What Google writes about mail that the owner sent by hand in the threads of messages: it changes nothing."""


@dataclass
class Seen:
    """What a storm has shown."""

    messages: int = 0
    kills: int = 0
    wrong: dict[str, object] = field(default_factory=dict)
    """Messages whose result is not the true one."""
    twice: int = 0
    """Notices or events that were written more than once."""
    suppressed_wrongly: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """Messages that nobody got."""
    duplicates: int = 0
    undone: int = 0
    seconds: float = 0.0
    units: dict[str, int] = field(default_factory=dict)
    notes: dict[str, object] = field(default_factory=dict)


_NO_SAFETY: dict[str, object] = {"job_bounces": 0, "sender_bounces": 0}
"""A quarter of these messages bounces, and none of them stops the rest."""


def setting(*, interval: float = 0.3, **sections: dict[str, object]) -> Setting:
    """Two daemons that read the inbox of SENDER again and again."""
    inbox: dict[str, object] = {"interval": interval, "limit_pause": 0.0}
    return Setting(
        latency=0.002,
        senders={SENDER: (COMPOSE, READONLY)},
        concurrency=40,
        sections={"inbox": inbox, "safety": _NO_SAFETY, **sections},
    )


async def results_storm(messages: int, *, kills: int, limits: int, forged: int, folder: Path) -> Seen:
    """Every class at once on `messages` messages, `limits` limit notices and `forged` forgeries, while daemons die.

    The owner writes by hand in the threads of SHARE of the messages, and what they write comes back.
    """
    seen, began = Seen(messages=messages, kills=kills), time.monotonic()
    async with place(folder, setting(), seed=1) as it:
        for child in it.daemons:
            child.start()
        each, like_limits = int(messages * SHARE), int(messages * SHARE) // len(_HOSTILE)
        plain = messages - like_limits * len(_HOSTILE)
        job = await it.post(plain)
        others = [await it.post(like_limits, to=to) for to in _HOSTILE]
        hostile = [f"{other}-{seq}" for other in others for seq in range(like_limits)]
        await _until(it, "SELECT COUNT(*) FROM job_recipients WHERE status = 'sent'", messages)
        await _until(it, "SELECT COUNT(*) FROM mailboxes WHERE history_id IS NOT NULL", 1)
        keys = [f"{job}-{seq}" for seq in range(plain)]
        it.chance.shuffle(keys)
        truth = dict(zip(hostile, _OF_HOSTILE * len(hostile), strict=False))
        truth |= _shapes_of(keys, each=each, limits=limits, forged=forged)
        await _arrive(it, truth, seen=seen, kills=kills)
        await _read_up(it)
        await _until(it, "SELECT COUNT(*) FROM job_recipients WHERE status = 'sent'", messages)
        await _read_up(it)
        await _judge(it, truth, seen)
        seen.units = await _units(it)
    seen.seconds = time.monotonic() - began
    return seen


def _shapes_of(keys: list[str], *, each: int, limits: int, forged: int) -> dict[str, str]:
    shapes = [shape for shape in _CLASSES for _ in range(each)]
    shapes += ["limit", "limit_fr", "limit_it", "limit_zh", "limit_report"] * (limits // 5)
    shapes += _FORGED * (forged // len(_FORGED))
    return dict(zip(keys, shapes, strict=False))


async def _arrive(it: Place, truth: dict[str, str], *, seen: Seen, kills: int) -> None:
    """Let the mail come in a random order, kill daemons between them, and forget the history twice.

    In the threads of SHARE of the messages the owner writes by hand, and Google writes about that.
    """
    own = it.chance.sample(list(truth), int(seen.messages * SHARE))
    owners = [(key, f"own {_OWNERS[number % len(_OWNERS)]}") for number, key in enumerate(own)]
    plan = [*truth.items(), *owners]
    it.chance.shuffle(plan)
    moments = {len(plan) * n // (kills + 1) for n in range(1, kills + 1)}
    lost = {len(plan) // 3, 2 * len(plan) // 3}
    for number, (key, shape) in enumerate(plan):
        if shape.startswith("own "):
            await it.google.send_manually(SENDER, key=key, shape=shape.removeprefix("own "))
        else:
            await it.google.notify(key, shape)
        if number in lost:
            await it.google.forget_history()
        if number in moments:
            await _while_reading(it)
            child = it.daemons[number % len(it.daemons)]
            child.kill()
            child.start()
    seen.notes |= {"arrived": Counter(truth.values()), "about the owner's own": len(owners)}


async def _while_reading(it: Place) -> None:
    """Until some daemon holds the mailbox, so that the kill meets a reader; a few seconds at most."""
    for _ in range(100):
        if await it.rows("SELECT 1 FROM mailboxes WHERE lease_until > UTC_TIMESTAMP(6)"):
            return
        await asyncio.sleep(0.02)


async def _judge(it: Place, truth: dict[str, str], seen: Seen) -> None:
    rows = await it.rows(
        "SELECT CONCAT(job_id, '-', seq), to_email, result, result_kind, result_code FROM job_recipients"
    )
    hard = set()
    for key, to, *result in rows:
        shape = truth.get(key, "")
        expected = (None, None, None) if shape.startswith("limit") else TRUTH.get(shape, (None, None, None))
        if expected[1] == "hard":
            hard.add(to)
        if tuple(result) != expected:
            seen.wrong[key] = (shape, tuple(result))
    suppressed = {to for (to,) in await it.rows("SELECT address FROM suppressions")}
    seen.suppressed_wrongly = sorted(suppressed ^ hard)
    noted = await it.rows("SELECT COUNT(*), COUNT(DISTINCT gmail_id) FROM notices")
    events = await it.rows(
        "SELECT COUNT(*), COUNT(DISTINCT type, JSON_VALUE(data, '$.recipient_id')) FROM events WHERE type IN "
        "('recipient.bounced', 'recipient.replied', 'recipient.auto_replied', 'recipient.sent_undone')"
    )
    seen.twice = noted[0][0] - noted[0][1] + events[0][0] - events[0][1]
    ((seen.undone,),) = await it.rows("SELECT COUNT(*) FROM attempts WHERE event = 'undone'")
    counted = await it.rows("SELECT SUM(bounced), SUM(replied) FROM jobs")
    actual = await it.rows(
        "SELECT SUM(result = 'bounced'), SUM(result IN ('replied', 'other_replied')) FROM job_recipients"
    )
    if counted != actual:
        seen.wrong["jobs.bounced, jobs.replied"] = (counted, actual)
    forged = await it.rows("SELECT COUNT(*) FROM notices WHERE believed = 0")
    seen.notes |= {"not believed": forged[0][0], "notices": noted[0][0]}


async def resent_storm(messages: int, *, dropped: int, kills: int, folder: Path) -> Seen:
    """Google takes `messages` messages, does not send `dropped` of them, and says so later: all arrive, each once."""
    seen, began = Seen(messages=messages, kills=kills), time.monotonic()
    async with place(folder, setting(), seed=2) as it:
        await it.google.fault(kind="undelivered", method="drafts.send", count=dropped, skip=messages // 5)
        for child in it.daemons:
            child.start()
        await it.post(messages)
        for number in range(kills):
            await asyncio.sleep(it.chance.uniform(0.2, 1.0))
            await _while_reading(it)
            it.daemons[number % len(it.daemons)].kill()
            it.daemons[number % len(it.daemons)].start()
        await _until(it, "SELECT COUNT(*) FROM attempts WHERE event = 'undone'", dropped)
        await _until(it, "SELECT COUNT(*) FROM job_recipients WHERE status = 'sent'", messages)
        await _read_up(it)
        got = Counter(message["key"] for message in await it.google.accepted())
        keys = [key for (key,) in await it.rows("SELECT CONCAT(job_id, '-', seq) FROM job_recipients")]
        seen.missing = [key for key in keys if not got[key]]
        seen.duplicates = sum(number - 1 for number in got.values() if number > 1)
        seen.notes["given back"] = len(await it.google.undelivered())
        ((seen.undone,),) = await it.rows("SELECT COUNT(*) FROM attempts WHERE event = 'undone'")
        seen.notes["attempts"] = await it.rows("SELECT attempts, COUNT(*) FROM job_recipients GROUP BY attempts")
        seen.notes["jobs"] = await it.rows("SELECT status, total FROM jobs")
        seen.notes["suppressed"] = (await it.rows("SELECT COUNT(*) FROM suppressions"))[0][0]
        seen.units = await _units(it)
    seen.seconds = time.monotonic() - began
    return seen


async def person_storm(per_day: int, *, reserve: int, folder: Path) -> Seen:
    """More messages than the day has, and a person who sends at random moments beside them, and then all of the
    reserve.

    The stand-in refuses what is above the day, and gives back by a limit notice what is above it all the same.
    """
    seen, began = Seen(messages=2 * per_day), time.monotonic()
    pace: dict[str, object] = {"units_per_minute": 0, "per_day": per_day, "reserve": reserve}
    async with place(folder, setting(pace=pace), seed=3) as it:
        await it.google.change_rules(per_day=per_day, late_per_day=per_day)
        for child in it.daemons:
            child.start()
        await it.post(2 * per_day)
        taken: list[bool] = []
        while int((await it.rows(_OF_THE_DAY))[0][0] or 0) < per_day - reserve:
            noticed = int((await it.rows(_BY_HAND))[0][0] or 0)
            if len(taken) - noticed < reserve:  # which is what the reserve is for: the messages between two looks
                taken.append(await it.google.send_manually(SENDER))
            await asyncio.sleep(it.chance.expovariate(4.0))
        await _until(it, "SELECT COUNT(*) = 0 FROM job_recipients WHERE status = 'sending'", 1)
        await _read_up(it)
        before = (await it.google.usage())["users"][SENDER]["sent_24h"]
        taken += [await it.google.send_manually(SENDER) for _ in range(per_day - before)]
        await _read_up(it)
        usage = (await it.google.usage())["users"][SENDER]
        seen.notes |= {
            "by hand": len(taken), "by hand, refused": taken.count(False),
            "known": int((await it.rows(_BY_HAND))[0][0]),
            "of the day, before the person's rest": before / per_day, "of the day": usage["sent_24h"] / per_day,
            "refused": usage["throttled"], "given back": len(await it.google.undelivered()),
        }  # fmt: skip
        seen.units = await _units(it)
    seen.seconds = time.monotonic() - began
    return seen


async def _until(it: Place, statement: str, number: int, *, within: float = 240.0) -> None:
    found, end = -1, time.monotonic() + within
    while (found := int((await it.rows(statement))[0][0] or 0)) < number:
        if time.monotonic() > end:
            raise AssertionError(f"{found} instead of {number} after {within} s: {statement}\n{await _left(it)}")
        await asyncio.sleep(0.1)


async def _left(it: Place) -> str:
    """What there is of the messages that Google gave back and that were not undone, for whoever looks for the cause."""
    undone = {key for (key,) in await it.rows(f"SELECT {_KEY} FROM attempts a JOIN {_OF} WHERE event = 'undone'")}
    left = [key for message in await it.google.undelivered() if (key := message["key"]) not in undone]
    about = {
        "messages": await it.rows(f"SELECT {_KEY}, r.* FROM job_recipients r WHERE {_KEY} IN %s", left or [""]),
        "attempts": await it.rows(f"SELECT {_KEY}, a.* FROM attempts a JOIN {_OF} WHERE {_KEY} IN %s", left or [""]),
        "asked of Google": [entry for entry in await it.google.log() if entry["key"] in left],
        "mailboxes": await it.rows("SELECT * FROM mailboxes"),
        "notices": await it.rows("SELECT * FROM notices"),
        "states": await it.rows("SELECT status, COUNT(*) FROM job_recipients GROUP BY status"),
    }
    return "\n".join(f"{name}: {what}" for name, what in about.items())


async def _read_up(it: Place, *, within: float = 240.0) -> None:
    """Until the inbox was read to its end twice since now: what has come by now is written then."""
    for _ in range(2):
        ((since,),) = await it.rows("SELECT UTC_TIMESTAMP(6)")
        async with asyncio.timeout(within):
            while not await it.rows(_READ_SINCE, since):  # noqa: ASYNC110 - another process reads
                await asyncio.sleep(0.1)


async def _units(it: Place) -> dict[str, int]:
    """Units that the stand-in charged, by method."""
    found: Counter[str] = Counter()
    for entry in await it.google.log():
        found[entry["method"]] += entry["units"]
    return dict(found)


STORMS: Final[dict[str, Callable[[Path], Awaitable[Seen]]]] = {
    "results": lambda folder: results_storm(2000, kills=50, limits=500, forged=200, folder=folder),
    "resent": lambda folder: resent_storm(500, dropped=200, kills=10, folder=folder),
    "person": lambda folder: person_storm(2000, reserve=40, folder=folder),
}


async def main() -> None:
    """Run all of them at full size, or those that are named."""
    for name in sys.argv[1:] or STORMS:
        seen = await STORMS[name](Path(tempfile.mkdtemp(prefix="mailerd-inbox-")))
        sys.stdout.write(json.dumps(vars(seen), default=str, indent=1, ensure_ascii=False) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main())
