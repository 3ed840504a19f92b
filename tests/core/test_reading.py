"""One cause for every surface: whatever the rows are, all name the same, and none is calm beside one that is not."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailerd.cli.senders import _row
from mailerd.cli.top import _standing
from mailerd.core.failing_attempts import FailingAttempts
from mailerd.core.forecast import ForecastInputs, compute_forecast, waiting_reason
from mailerd.core.labels import worded
from mailerd.core.rate_limit import FOREVER, SenderLimits
from mailerd.core.reading import (
    Authorization,
    AuthorizationState,
    Cause,
    Reading,
    authorized,
    joined_causes,
    waits,
)
from mailerd.core.reasons import reason
from mailerd.core.sender_state import SenderState
from mailerd.core.senders import SenderReading
from mailerd.core.situation import Facts, situation
from mailerd.core.states import JobStatus, JobType, State
from mailerd.core.stats import QueueStats, SenderStats
from mailerd.intake.response_models import ForecastOut, JobOut
from mailerd.intake.senders import SenderOut
from mailerd.store.read.describe import Queue, Waits, _reading, held, of_message, reading_of, waits_for
from mailerd.store.read.history import RecipientHistory
from mailerd.store.read.jobs import Job
from mailerd.web.look.overview_page import _outlook
from tests.core.test_forecast import HOUR, MINUTE, NOW, SECOND, outlook

NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)
AT = NOON - HOUR
SENDER = SenderStats("me@example.com", 54, 2000, 0, 0, None, "", "")


@pytest.mark.parametrize(
    "sender, given_, said",
    [
        ({}, {}, []),
        ({"paused_until": NOON}, {"job_paused": True}, ["the job is paused"]),
        ({}, {"due": NOON}, ["not due before 12:00"]),
        ({}, {"due": NOON, "tried": True, "error": "503:"}, ["deferred until 12:00 after the last attempt: 503"]),
        ({}, {"due": NOON, "tried": True}, ["deferred until 12:00 after the last attempt"]),
        ({"paused_until": NOON, "pause_reason": "429"}, {}, ["me@example.com is paused until 12:00: 429"]),
        ({"paused_until": NOON}, {}, ["me@example.com is paused until 12:00"]),
        ({"paused_until": FOREVER}, {"due": NOON}, ["me@example.com is paused until it is resumed"]),
        ({"paused_until": NOON + HOUR}, {"due": NOON}, ["me@example.com is paused until 13:00"]),
        ({"paused_until": NOON}, {"due": NOON + HOUR}, ["not due before 13:00"]),
        (
            {"paused_until": NOON, "repair": "you sign in", "pause_reason": "refused"},
            {"due": NOON + HOUR},
            ["me@example.com is paused until you sign in (tried each minute: refused)"],
        ),
        (
            {"used_day": 1998, "next_cost": 3, "room_at": NOON},
            {},
            [
                "the next message counts as 3 because of its copies; 1,998 of 2,000 in 24 hours are used: it is sent "
                "at 12:00"
            ],
        ),
        ({}, {"outage": "full", "job_paused": True}, ["the database is full"]),
        ({"turn": NOON}, {"runs": False}, ["no daemon runs", None]),
        ({}, {"waiting": False, "runs": False}, ["no daemon runs"]),
        ({"turn": NOON}, {"in_flight": True}, []),
        ({"paused_until": NOON}, {"in_flight": True}, ["me@example.com is paused until 12:00"]),
    ],
)
def test_the_cause_is_what_weighs_most_and_ends_last(
    sender: dict[str, Any], given_: dict[str, Any], said: list[str | None]
) -> None:
    causes = waits(Reading(AT, replace(SENDER, **sender), **given_), name="me@example.com", say="{:%H:%M}".format)
    assert [expected and cause.why for cause, expected in zip(causes, said, strict=True)] == said


LIMITS = SenderLimits(6000, 0, 10)
FAILING = (
    None,
    FailingAttempts(5, 5, "Google responded 503", NOW - MINUTE, 7),
    FailingAttempts(6, 8, "Google responded 503", NOW - MINUTE, 7),
    FailingAttempts(3, 3, reason("google_silent", cause="time-out"), NOW - MINUTE, 7),
)
MISSING = Authorization(AuthorizationState.MISSING, reason="no credential file")
PAUSES: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [{}, {"paused_until": NOW - HOUR, "pause_cause": "throttled"}, {"paused_until": FOREVER, "pause_cause": "manual"}]
    + [
        {"paused_until": NOW + wait, "pause_cause": cause, "pause_reason": why}
        for wait in (-30 * SECOND, 5 * MINUTE, 3 * HOUR)
        for cause, why in (("throttled", "429"), ("token_refused", "revoked"), ("daily_limit", None))
        if wait > timedelta(0) or cause == "token_refused"
    ]
)


@st.composite
def worlds(draw: st.DrawFn) -> "World":
    """The rows of a sender with one job, as daemons leave them."""
    braked = draw(st.sampled_from([None, None, NOW + 2 * MINUTE]))
    late = draw(st.sampled_from([None, None, NOW + 2 * HOUR]))
    error = draw(st.sampled_from([None, None, "Google responded 503"]))
    paused = draw(st.sampled_from([False, False, False, True]))
    state = outlook(
        0, LIMITS, now=NOW, **draw(PAUSES), gap_until=draw(st.sampled_from([None, NOW + 10 * MINUTE]))
    ).sender
    due = max(NOW, braked or NOW, late or NOW)
    return World(
        state,
        ForecastInputs(
            state, messages=draw(st.sampled_from([0, 5, 5, 5])), due=due, first_cost=draw(st.sampled_from([1, 3])),
            error=error, job_paused=paused, braked_until=None if paused else braked,
            next_claim_at=None if paused else due,
            hours={NOW.replace(minute=0): draw(st.sampled_from([0, 7, 9, 10]))}, failing=draw(st.sampled_from(FAILING)),
            outage=draw(st.sampled_from(["", "", "", "read-only"])),
            authorization=draw(st.sampled_from([Authorization(), Authorization(), MISSING])),
        ),
        in_flight=draw(st.booleans()),
    )  # fmt: skip


class World:
    """What each surface has of it: forecasts, rows of jobs and messages, the last look at all senders."""

    def __init__(self, state: SenderState, inputs: ForecastInputs, *, in_flight: bool) -> None:
        self.state, self.inputs, self.in_flight = state, inputs, in_flight
        waiting = 0 if inputs.job_paused else inputs.messages
        whole = replace(
            inputs, messages=waiting, job_paused=False, all_of_sender=True, authorization=Authorization(), error=None
        )
        self.sender = SenderReading(whole, elsewhere=0, counted_to=100, read_at=None).authorized(inputs.authorization)
        self.stats = authorized(whole.stats, inputs.authorization)
        of_row = "paused_until", "pause_cause", "pause_reason", "repair", "turn"
        row = replace(SENDER, **{name: getattr(whole.stats, name) for name in of_row})
        counts = {State.WAITING: inputs.messages, State.SENDING: int(in_flight), State.UNSURE: 0}
        late = inputs.due if inputs.due > NOW else None
        self.job = Job(
            id="J", type=JobType.TEMPLATE, sender_email="me@example.com", reference=None, priority=0,
            status=JobStatus.PAUSED if inputs.job_paused else JobStatus.SENDING, total=9, created_at=NOW, send_at=NOW,
            started_at=NOW, finished_at=None, sender=row, at=NOW, template_name=None, template_version=None, took=1.0,
            counts=counts, deferred_until=late, tried=bool(late and inputs.error), braked_until=inputs.braked_until,
            outage=inputs.outage,
        )  # fmt: skip
        self.story = RecipientHistory(
            id=7, job_id="J", to_email="ada@example.org", status=State.WAITING, attempts=0, checks=0,
            due_at=inputs.due, lease_until=None, daemon=None, mode=None, draft_id=None, message_id=None,
            error=inputs.error, sent_at=None, accepted_at=NOW, job_status=self.job.status, sender="me@example.com",
            row=row, now=NOW, updated_at=NOW, proof=None, braked_until=inputs.braked_until,
        )  # fmt: skip

    def readings(self) -> Iterator[Reading]:
        """By which the surfaces of a job are judged."""
        yield self.inputs.reading(compute_forecast(self.inputs))
        yield reading_of(self.job, self.stats)
        if self.inputs.messages:
            yield _reading(self.story, Queue(outlooks={"J": self.inputs}, outage=self.inputs.outage))


@given(worlds())
def test_all_surfaces_of_a_job_name_the_same_cause(world: World) -> None:
    inputs, job, known = world.inputs, world.job, world.stats
    first = [next((cause for cause in waits(it) if cause.code != "retry"), None) for it in world.readings()]
    assert len({cause and cause.code for cause in first}) == 1, first
    assert len({bool(cause and cause.finding) for cause in first}) == 1
    # Each surface words that cause, and is not silent where another speaks.
    forecast, by_row = ForecastOut.of(inputs), joined_causes(waits(reading_of(job, known)))
    api = JobOut.of(job, forecast, known=known).cause_of_wait
    stream = JobOut.of(job, known=known).cause_of_wait
    assert stream == by_row
    assert api == (waiting_reason(inputs, compute_forecast(inputs)) if inputs.messages else by_row)
    assert _outlook(inputs)[0] in {"", api}
    for lines in (held(job, inputs), held(job, known=known)):
        assert bool(lines) >= bool(first[0]), lines
    words = {waits_for(job, daemon=True, inputs=inputs), waits_for(job, daemon=True, known=known)}
    assert len(words) == 1, words
    assert words == {_word(first[0], world)}
    if inputs.messages and first[0] and first[0].finding:
        queue = Queue(outlooks={"J": inputs}, outage=inputs.outage, runs=True)
        said = waits(_reading(world.story, queue), name="me@example.com", say=lambda at: f"{at:%Y-%m-%d %H:%M:%S} UTC")
        assert f"Now: waiting: {said[0].why}" in "\n".join(of_message(world.story, queue))


def _word(cause: Cause | None, world: World) -> Waits | None:
    if cause is None or world.job.status is JobStatus.PAUSED or (world.in_flight and not cause.finding):
        return None
    if cause.code.startswith("database_"):
        return Waits.NO_DATABASE
    words = {"day_full": Waits.LIMIT, "google_silent": Waits.DEFERRED, "others_first": None}
    return words.get(cause.code, Waits(cause.code) if cause.code in set(Waits) else Waits.SENDER_PAUSED)


@given(worlds())
def test_all_surfaces_of_a_sender_name_the_same_cause(world: World) -> None:
    sender, stats = world.sender, world.stats
    shown = SenderOut.of(sender, world.inputs.authorization, ())
    look = situation(Facts(QueueStats(NOW, senders=(stats,)), world.inputs.outage))
    its = [it for it in look if it.about in {"sender me@example.com", "database"}]
    finding = sender.finding
    assert [shown.finding and shown.finding.code, its[0].code if its else None] == [finding and finding.code] * 2
    assert (finding and finding.text) == (its[0].text if its else None)
    line, top = _row(sender), _standing(stats, its[0] if its else None, NOW).plain
    if finding:
        word = worded("paused_manually" if finding.code == "manual" else finding.code)
        assert line[1].startswith(word)
        assert top.startswith(word)
    else:
        assert line[1] == worded(sender.activity)
        assert top in {"active", "-"}
    assert (shown.state == "paused") == bool(shown.pause)
    assert not (shown.state == "sending" and finding), "nothing is sent"
    if shown.pause:
        assert finding is not None


@given(worlds())
def test_no_job_is_calm_beside_its_sender(world: World) -> None:
    """Only where its own pause or its own time comes first: else what is wrong with the sender is why it waits."""
    (first, *_), finding = [next(iter(waits(it)), None) for it in world.readings()], world.sender.finding
    if world.inputs.messages == 0 or (first and first.code in {"job_paused", "scheduled", "deferred"}):
        return
    assert (first.code if first and first.finding else None) == (finding and finding.code)
