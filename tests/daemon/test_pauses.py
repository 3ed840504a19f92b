"""Trouble by scope, end to end: one daemon, a sender for each of Google's answers, and what became of each."""

from datetime import timedelta
from pathlib import Path

import pytest

from mailerd.config import Settings
from mailerd.core.rate_limit import DRAFT_PAIR_UNITS, UNITS
from mailerd.core.replies import Call
from mailerd.sandbox.google import FakeGoogle, Fault, RunningServer
from mailerd.store.db.database import Database
from mailerd.store.queue.rate_limits import RateLimits
from tests.support.daemon import running, settings, sign_in, sweep
from tests.support.eventually import eventually
from tests.support.heard import Heard
from tests.support.rows import post, query, states

# What a draft's sending is answered with: (status of the message, its attempts, the cause of the sender's pause).
ROWS: dict[str, tuple[str, int, str | None]] = {
    "invalid_to": ("failed", 1, None),
    "recipient_required": ("failed", 1, None),
    "precondition_failed": ("waiting", 0, "mailbox_refused"),
    "mail_service_not_enabled": ("waiting", 0, "mailbox_refused"),
    "auth_error": ("waiting", 0, "token_refused"),
    "rate_limit": ("waiting", 0, "throttled"),
    "user_rate_limit": ("waiting", 0, "throttled"),
    "user_rate_limit_retry_after": ("waiting", 0, "throttled"),
    "user_rate_limit_retry_after_403": ("waiting", 0, "throttled"),
    "mail_sending_retry_after": ("waiting", 0, "daily_limit"),
    "too_many_concurrent": ("waiting", 0, "too_many_concurrent"),
    "domain_policy": ("waiting", 0, "domain_policy"),
    "api_disabled": ("waiting", 0, "api_disabled"),
    "scope_insufficient": ("waiting", 0, "scope_missing"),
}
TOKENS: dict[str, tuple[str, int, str | None]] = {
    "invalid_grant": ("waiting", 0, "token_refused"),
    "admin_policy": ("waiting", 0, "domain_policy"),
    "invalid_client": ("waiting", 0, "client_refused"),
    "unauthorized_client": ("waiting", 0, "client_refused"),
}


async def test_a_slow_way_to_google_is_learnt_by_the_sender_that_has_it(
    known: Settings, database: Database, google: FakeGoogle, credentials: Path, heard: Heard
) -> None:
    sign_in(google, credentials, "slow@example.com")
    google.fault(Fault(kind="latency", method="drafts.send", sender="slow@example.com", seconds=0.7))
    for sender in ("me@example.com", "slow@example.com"):
        await post(database, sender=sender, recipients=1)
    limited = known.model_copy(update={"pace": known.pace.model_copy(update={"units_per_minute": 6000})})
    async with running(limited, heard):
        await heard.wait_for("message_sent", times=2)
    rows = await query(database, "SELECT latency >= 0.7, latency_at IS NOT NULL FROM senders WHERE email LIKE 'slow%%'")
    assert rows == [(1, 1)]


async def test_each_answer_of_google_has_its_own_scope_and_spares_everybody_else(
    known: Settings, database: Database, google: FakeGoogle, credentials: Path, heard: Heard,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for wait in ("_CONCURRENT_WAIT", "_THROTTLE_WAIT"):  # nobody is tried again before the tables are read
        monkeypatch.setattr(f"mailerd.core.decisions.{wait}", timedelta(hours=1))
    for kind in (*ROWS, *TOKENS):
        sender = f"{kind.replace('_', '-')}@example.com"
        sign_in(google, credentials, sender)
        method = "token" if kind in TOKENS else "drafts.send"
        google.fault(Fault(kind=kind, method=method, sender=sender, count=2 if kind == "auth_error" else 1))
        await post(database, sender=sender, recipients=1)
    spared = await post(database, recipients=5)
    async with running(known, heard):
        await heard.wait_for("message_released", times=len(ROWS) + len(TOKENS) - 2)
        await heard.wait_for("message_failed", times=2)
        await heard.wait_for("message_sent", times=5)
    assert await states(database, spared) == {"sent": 5}
    rows = await query(
        database,
        "SELECT j.sender_email, r.status, r.attempts, s.pause_cause FROM jobs j "
        "JOIN job_recipients r ON r.job_id = j.id JOIN senders s ON s.email = j.sender_email WHERE j.id <> %s",
        spared,
    )
    found = {email.partition("@")[0].replace("-", "_"): tuple(rest) for email, *rest in rows}
    assert found == ROWS | TOKENS
    assert google.duplicates() == {}


@pytest.mark.parametrize("kind", ["daily_limit", "quota_exceeded"])
async def test_a_project_that_is_used_up_pauses_all_its_senders_and_is_alarmed(
    known: Settings, database: Database, google: FakeGoogle, credentials: Path, heard: Heard, kind: str
) -> None:
    sign_in(google, credentials, "you@example.com")
    for sender in ("me@example.com", "you@example.com"):
        await post(database, sender=sender, recipients=1)
    async with running(known, heard):
        await heard.wait_for("job_finished", times=2)
        google.fault(Fault(kind=kind, method="drafts.create"))
        await post(database, sender="me@example.com", recipients=1)
        await heard.wait_for("project_paused")
        waiting = await post(database, sender="you@example.com", recipients=1)
        rows = await query(
            database, "SELECT pause_cause, paused_until > UTC_TIMESTAMP(6) + INTERVAL 50 MINUTE FROM senders"
        )
        assert rows == [("project_limit", 1)] * 2
    assert await states(database, waiting) == {"waiting": 1}


async def test_a_project_that_is_used_up_pauses_senders_whose_first_message_it_is(
    known: Settings, database: Database, google: FakeGoogle, credentials: Path, heard: Heard
) -> None:
    sign_in(google, credentials, "you@example.com")
    async with running(known, heard):
        google.fault(Fault(kind="daily_limit", method="drafts.create"))
        await post(database, sender="me@example.com", recipients=1)
        await heard.wait_for("project_paused")
        waiting = await post(database, sender="you@example.com", recipients=1)
        await heard.wait_for("sender_paused")
        rows = await query(
            database, "SELECT pause_cause, paused_until > UTC_TIMESTAMP(6) + INTERVAL 50 MINUTE FROM senders"
        )
        assert rows == [("project_limit", 1)] * 2
    assert await states(database, waiting) == {"waiting": 1}
    assert await query(database, "SELECT MAX(attempts) FROM job_recipients") == [(0,)]
    assert google.sent == []


async def test_a_token_revoked_in_mid_job_waits_names_the_remedy_and_goes_on_with_the_new_file(
    known: Settings, database: Database, google: FakeGoogle, credentials: Path, heard: Heard
) -> None:
    sign_in(google, credentials, "other@example.com")
    google.change_rules(latency_s=0.05, token_lifetime_s=3600)
    job = await post(database, recipients=200)
    async with running(known, heard) as daemon:
        await heard.wait_for("message_sent", times=5)
        google.revoke("me@example.com")
        told = await heard.wait_for("sender_paused")
        assert told["sender"] == "me@example.com"
        assert told["cause"] == "token_refused"
        assert "mailerd auth login" in told["reason"]
        assert len(heard.of("sender_paused")) == 1
        other = await post(database, sender="other@example.com", recipients=3)
        daemon.runner.wake()
        await heard.wait_for("job_finished")
        assert await states(database, other) == {"sent": 3}
        google.restore("me@example.com")
        sign_in(google, credentials)  # what `mailerd auth login` leaves: a new file
        # The recheck comes after a minute; the test does not wait for it.
        await query(
            database,
            "UPDATE senders SET paused_until = UTC_TIMESTAMP(6), next_claim_at = UTC_TIMESTAMP(6) WHERE email = %s",
            "me@example.com",
        )
        resumed = await heard.wait_for("sender_resumed")
        assert resumed["cause"] == "token_refused"
        await heard.wait_for("job_finished", times=2)
    assert await states(database, job) == {"sent": 200}
    assert await query(database, "SELECT DISTINCT attempts FROM job_recipients") == [(1,)]
    assert google.duplicates() == {}
    assert len(heard.of("sender_paused")) == 1  # dozens of messages were refused together


async def test_a_pause_survives_a_restart(
    known: Settings, database: Database, google: FakeGoogle, heard: Heard
) -> None:
    google.fault(Fault(kind="user_rate_limit_retry_after", method="drafts.send"))
    job = await post(database, recipients=1)
    async with running(known, heard):
        await heard.wait_for("sender_paused")
    before = await query(database, "SELECT paused_until, pause_cause FROM senders")
    again = Heard()
    async with running(known, again):
        await again.wait_for("heartbeat")
    assert await query(database, "SELECT paused_until, pause_cause FROM senders") == before
    assert await states(database, job) == {"waiting": 1}
    assert again.of("message_started") == []


async def test_what_google_charges_is_what_the_ledger_was_asked_for(
    database_url: str, served: RunningServer, credentials: Path, database: Database, google: FakeGoogle, heard: Heard,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A doubt's look, the search for an orphan and its deletion, a failed message's draft: none is for nothing."""
    known = settings(
        database_url, served, credentials, pace={"units_per_minute": 60_000, "tier": "scaled"},
        gmail={"request_timeout": 2.0},
        runner={"lease": 16, "poll_interval": 0.1},
    )  # fmt: skip
    paid: list[int] = []
    acquire = RateLimits.acquire

    async def watched(self: RateLimits, sender: str, *, units: int) -> timedelta:
        wait = await acquire(self, sender, units=units)
        # Whose mailbox it is, is asked in any case: no message waits until the row of its sender is free for one unit.
        paid.extend([units] if not wait or units == UNITS[Call.GET_PROFILE] else [])
        return wait

    monkeypatch.setattr(RateLimits, "acquire", watched)
    for kind in ("reset_before", "reset_after", "invalid_to"):
        google.fault(Fault(kind=kind, method="drafts.send"))
    google.fault(Fault(kind="reset_after", method="drafts.create"))
    await post(database, recipients=6)
    async with running(known, heard) as daemon:
        await heard.wait_for("job_finished")

        async def swept() -> bool:
            await sweep(daemon)  # whole, so that none has paid for a call when the daemon ends, and not made it
            return bool(heard.of("orphan_deleted"))

        await eventually(swept)
    looks = [entry.method for entry in google.log if entry.method not in {"token", "drafts.create", "drafts.send"}]
    assert {"drafts.get", "drafts.list", "drafts.delete"} <= set(looks)
    assert sorted(paid) == sorted(UNITS[Call(method)] for method in looks)
    messages = sum(told["messages"] for told in heard.of("claimed"))
    sends = sum(entry.units for entry in google.log if entry.method in {"drafts.create", "drafts.send"})
    assert sends <= messages * DRAFT_PAIR_UNITS
