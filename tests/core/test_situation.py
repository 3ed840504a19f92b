"""The one judge of how it goes: what is wrong by which facts, how bad, and what to do."""

import shlex
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mailerd.core.failing_attempts import Attempted, failing
from mailerd.core.pauses import remedy
from mailerd.core.rate_limit import FOREVER
from mailerd.core.reading import Condition, Severity
from mailerd.core.reasons import reason
from mailerd.core.replies import Call, NoResponse, NotSent, TokenUnavailable
from mailerd.core.situation import START, Facts, shortened, situation, under_way, worst
from mailerd.core.states import State
from mailerd.core.stats import DaemonInfo, FailedJob, JobTrouble, QueueStats, SenderStats, UnreadInbox, WebhookStats
from mailerd.core.verdicts import judge

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
ALIVE = DaemonInfo("d", "here", 1, "v", silent=3, age=100)
SILENT = judge(Call.DRAFTS_CREATE, NoResponse("no answer within 5 s")).reason
UNREACHABLE = [judge(Call.DRAFTS_CREATE, it).reason for it in (NotSent("refused"), TokenUnavailable("reset"))]


def found(**values: Any) -> list[Condition]:
    return situation(Facts(QueueStats(at=NOW, **{"daemons": (ALIVE,), **values})))


def sender(email: str = "a@x", **values: Any) -> SenderStats:
    none = {"per_minute": 0, "per_day": 0, "used_minute": 0, "used_day": 0}
    return SenderStats(email, **{**none, "paused_until": None, "pause_cause": "", "pause_reason": "", **values})


def tried(*reasons: str | None, open_: bool = True) -> list[Attempted]:
    """Attempts, the newest first, a second apart."""
    return [Attempted(NOW - timedelta(seconds=n), it, 100 - n, open_) for n, it in enumerate(reasons)]


def test_all_is_well_only_where_it_is_known() -> None:
    assert found() == []
    (unknown,) = situation(Facts(None, unknown_for=12))
    assert (unknown.severity, unknown.text) == (Severity.AMBER, "Not known for 12 s: the tables cannot be read.")
    assert worst(situation(Facts(QueueStats(at=NOW, daemons=(ALIVE,)), unknown_for=12))) is Severity.AMBER


@pytest.mark.parametrize(
    "outage", ["away", "login", "connections", "read-only", "full", "denied", "incomplete", "stuck"]
)
def test_a_database_that_cannot_be_used_is_all_there_is_to_say(outage: str) -> None:
    (it,) = situation(Facts(QueueStats(at=NOW, senders=(sender(paused_until=FOREVER),)), outage))
    assert (it.severity, it.code) == (Severity.RED, f"database_{outage.replace('-', '_')}")
    assert it.remedies


def test_a_daemon_that_gets_fewer_connections_than_it_wants_says_so_and_what_helps() -> None:
    (it,) = situation(Facts(QueueStats(at=NOW, daemons=(ALIVE,)), connections=2))
    assert (it.severity, it.code) == (Severity.AMBER, "database_crowded")
    assert ("2 are in use" in it.text, "max_connections" in it.remedies[0]) == (True, True)


def test_the_newest_cause_wins_over_the_most_frequent() -> None:
    it = failing(tried("quota", *["token"] * 9))
    assert it is not None
    assert (it.reason, it.failed, it.tried, it.example) == ("quota", 10, 10, 100)


@pytest.mark.parametrize(
    "newest, tells",
    [
        (["503"], False), (["503", "503"], True), (["503", None, None], False), ([None, "503", "503"], False),
        (["503", None, "503", "503"], True), (["503", None, "503", None], False), ([SILENT], False), ([], False),
        ([SILENT, None, None], False), ([SILENT, SILENT], True),
        ([SILENT, SILENT, None, None], False),
        *[([each, None], True) for each in UNREACHABLE],
    ],
)  # fmt: skip
def test_two_failures_in_a_row_are_trouble_and_one_that_took_long_is(newest: list[str | None], *, tells: bool) -> None:
    assert (failing(tried(*newest)) is not None) == tells


def test_attempts_of_messages_that_are_finished_are_no_trouble() -> None:
    assert failing(tried("503", "503", open_=False)) is None


def test_an_endpoint_that_has_failed_twice_is_a_finding_and_one_that_was_restarted_is_none() -> None:
    codes = [
        [it.code for it in found(webhooks=(WebhookStats("crm", "failing", seconds, 1, 1.0),))] for seconds in (4, 6)
    ]
    assert codes == [[], ["webhook_failing"]]


def test_where_google_itself_fails_its_status_page_is_named() -> None:
    (it,) = found(senders=(sender(failing=failing(tried(*[reason("google_error", said="500")] * 2))),))
    assert (it.code, "appsstatus" in it.remedies[0]) == ("deferred", True)


@pytest.mark.parametrize("reason, code, severity", [
    (SILENT, "google_silent", Severity.RED), (UNREACHABLE[0], "google_unreachable", Severity.RED),
    (UNREACHABLE[1], "google_unreachable", Severity.RED), ("503", "deferred", Severity.AMBER),
])  # fmt: skip
def test_attempts_that_fail_are_told_by_their_cause(reason: str, code: str, severity: Severity) -> None:
    (it,) = found(senders=(sender(failing=failing(tried(reason, reason))),))
    assert (it.code, it.severity, it.example) == (code, severity, 100)
    assert it.text == f"a@x: the last 2 attempts failed: {reason}"


def test_what_is_said_while_all_is_well_is_what_goes_on() -> None:
    assert under_way(QueueStats(at=NOW)) == "Nothing is waiting to be sent."
    assert (
        under_way(QueueStats(at=NOW, recipients={State.WAITING: 2})) == "Messages wait for their time, or for "
        "sending limits."
    )
    assert under_way(QueueStats(at=NOW, recipients={State.SENDING: 1})) == "Messages are being sent."
    busy = QueueStats(at=NOW, senders=(replace(sender(), used_minute=1),))
    assert under_way(replace(busy, recipients={State.WAITING: 1})) == "Messages are being sent."
    assert under_way(busy) == "Nothing is waiting to be sent.", "the last was sent within this minute"


def test_a_project_quota_is_raised_and_a_revoked_authorization_needs_no_resume() -> None:
    paused = sender(paused_until=NOW + timedelta(hours=1), pause_cause="project_limit", pause_reason="403")
    (it,) = found(senders=(paused,))
    assert it.remedies[0] == "https://console.cloud.google.com/iam-admin/quotas"
    (it,) = found(senders=(replace(paused, pause_cause="token_refused", repair=remedy("token_refused", sender="a@x")),))
    assert it.remedies == ("mailerd auth login --sender a@x",)


def test_a_pause_hides_what_it_says_itself_and_its_remedy_names_the_sender() -> None:
    paused = sender(paused_until=NOW + timedelta(hours=1), pause_cause="throttled", pause_reason="429",
                    failing=failing(tried("429", "429")))  # fmt: skip
    (it,) = found(senders=(paused,))
    assert (it.severity, it.code, it.remedies) == (
        Severity.AMBER,
        "throttled",
        ("it resumes automatically; if it happens often: `mailerd senders set a@x --per-minute 40`",),
    )
    assert it.text == "a@x is paused until 13:00 UTC: 429"
    (it,) = found(senders=(replace(paused, pause_cause="manual"),))
    assert (it.severity, it.remedies) == (Severity.BLUE, ("mailerd senders resume a@x",))
    (it,) = found(senders=(replace(paused, pause_cause="token_refused", repair=remedy("token_refused", sender="a@x")),))
    assert (it.severity, it.remedies[0]) == (Severity.RED, "mailerd auth login --sender a@x")


@pytest.mark.parametrize("cause", ["throttled", "too_many_concurrent", "daily_limit"])
def test_nobody_is_told_to_resume_a_sender_that_google_would_refuse_again(cause: str) -> None:
    """The documents say the same: there is nothing to do."""
    (it,) = found(senders=(sender(paused_until=NOW + timedelta(hours=1), pause_cause=cause, pause_reason="429"),))
    assert [remedy.partition(";")[0] for remedy in it.remedies] == ["it resumes automatically"]


@pytest.mark.parametrize(
    "daemons, code, severity",
    [
        ([], "no_daemon", Severity.RED),
        ([replace(ALIVE, silent=40)], "no_daemon", Severity.RED),
        ([replace(ALIVE, silent=13, is_gone=True)], "no_daemon", Severity.RED),
        ([ALIVE, DaemonInfo("e", "there", 2, "v", silent=40, age=900)], "daemon_gone", Severity.AMBER),
        ([ALIVE, DaemonInfo("e", "here", 2, "v", silent=40, age=900)], "daemon_gone", Severity.AMBER),
        ([ALIVE, DaemonInfo("e", "there", 2, "v", silent=601, age=900)], "daemon_gone", Severity.BLUE),
        ([ALIVE, DaemonInfo("e", "here", 2, "v", silent=101, is_replaced=True)], None, None),
    ],
)
def test_a_daemon_that_does_not_respond_is_told_unless_it_was_replaced(
    daemons: list[DaemonInfo], code: str | None, severity: Severity | None
) -> None:
    its = found(daemons=tuple(daemons), last_beat=40, recipients={State.WAITING: 3})
    assert [(it.code, it.severity) for it in its] == ([(code, severity)] if code else [])
    if code == "no_daemon":
        assert its[0].text == "No daemon responds, the last one was seen 40 s ago; 3 messages wait."


@pytest.mark.parametrize("usable_for, codes", [(1.0, ["unsure"]), (61.0, ["awaiting_google", "late", "long_unsure"])])
def test_what_an_outage_has_made_late_is_no_finding_before_a_minute_has_passed(
    usable_for: float, codes: list[str]
) -> None:
    stats = QueueStats(at=NOW, recipients={State.WAITING: 1, State.UNSURE: 1}, daemons=(ALIVE,), oldest_claimable=1800,
                       oldest_unsure=1800, awaiting_google=1800)  # fmt: skip
    assert sorted(it.code for it in situation(Facts(stats, usable_for=usable_for))) == codes


def test_no_daemon_is_missed_in_the_first_seconds_after_the_database_is_back() -> None:
    stats = QueueStats(at=NOW, recipients={State.WAITING: 1}, daemons=(replace(ALIVE, silent=70),), last_beat=70)
    assert situation(Facts(stats, just_back=True)) == []
    assert worst(situation(Facts(stats))) is Severity.RED


def test_what_waits_and_what_failed_is_told() -> None:
    rest: dict[str, dict[str, Any]] = {
        "late": {"oldest_claimable": 61.0},
        "unsure": {"recipients": {State.UNSURE: 2}, "oldest_unsure": 30.0},
        "long_unsure": {"recipients": {State.UNSURE: 1}, "oldest_unsure": 1000.0},
        "day_full": {"senders": (sender(per_day=30, used_day=30),)},
        "failed": {"senders": (sender(sent=4, failed=1),)},
        "inbox_unreadable": {"inboxes": (UnreadInbox("a@x", "403", None),)},
        "job_paused_for_bounces": {"jobs_in_trouble": (JobTrouble("J", "a@x", "3 of 4", paused=True),)},
        "job_failed": {"failed_jobs": (FailedJob("J", "a@x", 2, 4),)},
        "job_bounces": {"jobs_in_trouble": (JobTrouble("J", "a@x", "2 of 4", paused=False),)},
    }
    assert {code: [it.code for it in found(**facts)] for code, facts in rest.items()} == {it: [it] for it in rest}
    assert found(oldest_claimable=59.0, senders=(sender(sent=5, failed=1),)) == []


def test_messages_that_wait_at_google_while_none_is_finished_are_a_finding() -> None:
    (it,) = found(recipients={State.SENDING: 14}, awaiting_google=20.0)
    assert (it.code, it.severity) == ("awaiting_google", Severity.AMBER)
    assert it.text == "Waiting for Google for 20 s: 14 messages in flight, and none finished meanwhile."
    assert found(recipients={State.SENDING: 14}, awaiting_google=9.0) == []
    silent = sender(failing=failing(tried(SILENT, SILENT)))
    assert [it.code for it in found(senders=(silent,), awaiting_google=40.0)] == ["google_silent"]


def test_a_daemon_that_stands_still_is_no_longer_called_well_after_a_few_seconds() -> None:
    stats = QueueStats(at=NOW, daemons=(replace(ALIVE, silent=7),), last_beat=7)
    (it,) = situation(Facts(stats))
    assert (it.code, it.severity, it.text) == (
        "daemon_late", Severity.AMBER, f"The daemon {ALIVE.pid} on {ALIVE.host} has not responded for 7 s.",
    )  # fmt: skip
    assert situation(Facts(stats, just_back=True)) == []
    assert situation(Facts(replace(stats, daemons=(replace(ALIVE, silent=5),)))) == []


@pytest.mark.parametrize("silent", [7, 40])
def test_a_daemon_that_may_still_be_there_is_ended_before_another_one_starts(silent: int) -> None:
    """To start a unit that is active does nothing, and a second daemon finds the port taken."""
    frozen = replace(ALIVE, silent=silent)
    (it,) = found(daemons=(frozen,), last_beat=silent)
    assert f"systemctl restart mailerd; without systemd: `kill -9 {ALIVE.pid}`" in it.remedies[0]
    (it,) = found(daemons=(replace(frozen, is_gone=True),), last_beat=silent)
    assert it.remedies == (START,)


@pytest.mark.parametrize("sent, minutes, tells", [(4, 3, True), (4, 1, False), (0, 3, False), (0, 16, True)])
def test_an_inbox_that_cannot_be_read_is_told_sooner_while_its_sender_sends(
    sent: int, minutes: int, *, tells: bool
) -> None:
    unread = UnreadInbox("a@x", "403", NOW - timedelta(minutes=minutes))
    assert bool(found(senders=(sender(used_day=sent),), inboxes=(unread,))) == tells


def test_a_warm_up_is_called_so_and_ends_by_its_own_option() -> None:
    (it,) = found(senders=(replace(sender(per_day=3, used_day=7), is_warming_up=True),))
    assert "the warm-up allows 3 messages a day, 7 are sent" in it.text
    assert it.remedies == ("mailerd senders set a@x --warm-up off",)


def test_what_many_have_in_common_is_said_a_few_times() -> None:
    many = tuple(replace(sender(paused_until=FOREVER, pause_cause="manual"), email=f"{n}@x") for n in range(9))
    its = shortened(found(senders=many))
    assert len(its) == 6
    assert its[-1].text == "The same holds for 4 more."


HOSTILE = "o'`id`@x"


def test_a_remedy_is_a_command_that_a_shell_takes_whatever_its_names_are() -> None:
    its = found(
        senders=(
            sender(per_day=30, used_day=30, email="3" + HOSTILE),
            sender(email=HOSTILE, pause_cause="token_refused", paused_until=NOW + timedelta(hours=1),
                   repair=remedy("token_refused", sender=HOSTILE)),
            sender(email="4" + HOSTILE, pause_cause="blocked", paused_until=NOW + timedelta(hours=1)),
        ),
        webhooks=(WebhookStats("a b", "paused", 90.0, 1, 1.0),),
        inboxes=(UnreadInbox(HOSTILE + "2", "403", None),),
    )  # fmt: skip
    commands = [shlex.split(each) for it in its for each in it.remedies if each.startswith("mailerd ")]
    assert ["mailerd", "senders", "set", "3" + HOSTILE, "--per-day", "2000"] in commands
    assert ["mailerd", "senders", "resume", "4" + HOSTILE] in commands
    assert ["mailerd", "auth", "login", "--sender", HOSTILE] in commands
    assert ["mailerd", "auth", "login", "--sender", HOSTILE + "2", "--readonly"] in commands
    assert ["mailerd", "webhooks", "test", "a b"] in commands
    assert ["mailerd", "webhooks", "resume", "a b"] in commands
