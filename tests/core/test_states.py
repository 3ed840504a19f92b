"""States: only what the table of the promises says can happen, and nothing is ever stuck."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailerd.core.states import (
    FOLLOWS,
    OPEN,
    SETTLED,
    ImpossibleRequestError,
    ImpossibleTransitionError,
    JobChange,
    JobStatus,
    State,
    Tally,
    Transition,
    after,
    job_after,
)
from mailerd.core.webhooks import EventType

# Written out by hand from the words of the promises, not read from the code.
POSSIBLE = {
    ("waiting", "claimed"): "sending",
    ("waiting", "cancelled"): "cancelled",
    ("waiting", "found"): "sent",
    ("waiting", "lost"): "unsure",
    ("waiting", "undone"): "waiting",
    ("sending", "claimed"): "sending",
    ("sending", "handed_over"): "sending",
    ("sending", "found"): "sent",
    ("sending", "sent"): "sent",
    ("sending", "failed"): "failed",
    ("sending", "deferred"): "waiting",
    ("sending", "released"): "waiting",
    ("sending", "suppressed"): "cancelled",
    ("sending", "lost"): "unsure",
    ("unsure", "lost"): "unsure",
    ("unsure", "found"): "sent",
    ("unsure", "missing"): "waiting",
    ("failed", "retried"): "waiting",
    ("sent", "retried"): "waiting",
    ("sent", "undone"): "waiting",
}


def test_the_states_are_those_that_the_api_and_the_table_show() -> None:
    assert {state.value for state in State} == {"waiting", "sending", "unsure", "sent", "failed", "cancelled"}
    assert {state.value for state in OPEN} == {"waiting", "sending", "unsure"}
    assert set(State) == OPEN | SETTLED
    assert not OPEN & SETTLED


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("change", Transition)
def test_a_pair_leads_where_the_table_says_or_raises(state: State, change: Transition) -> None:
    if expected := POSSIBLE.get((state.value, change.value)):
        assert after(state, change) is State(expected)
    else:
        with pytest.raises(ImpossibleTransitionError, match=f"a recipient that is {state} cannot be {change}"):
            after(state, change)


@given(st.lists(st.sampled_from(Transition), max_size=40))
def test_no_path_leaves_an_end_but_a_retry_of_what_failed_and_a_disproof_of_what_was_sent(
    changes: list[Transition],
) -> None:
    state = State.WAITING
    for change in changes:
        settled = state in SETTLED
        try:
            state = after(state, change)
        except ImpossibleTransitionError:
            continue
        assert not settled or change in {Transition.RETRIED, Transition.UNDONE}, f"an end was left by {change}"


@given(st.lists(st.sampled_from(Transition), max_size=40))
def test_nothing_is_sent_again_from_a_doubt_unless_google_has_said_that_it_is_missing(
    changes: list[Transition],
) -> None:
    state, doubted = State.WAITING, False
    for change in changes:
        try:
            state = after(state, change)
        except ImpossibleTransitionError:
            continue
        # UNDONE: Google shows the draft of a message that only a missing draft made `sent`. FOUND: it is sent, and what
        # is sent is tried again only after a bounce.
        certain = change in {Transition.MISSING, Transition.UNDONE, Transition.FOUND}
        doubted = (doubted or change is Transition.LOST) and not certain
        assert not (doubted and state in {State.WAITING, State.SENDING})


@pytest.mark.parametrize("start", sorted(OPEN))
def test_every_open_state_can_reach_an_end(start: State) -> None:
    reached, new = {start}, {start}
    while new:
        new = {after(state, Transition(change)) for state in new for s, change in POSSIBLE if s == state} - reached
        reached |= new
    assert reached >= {State.SENT, State.WAITING, State.FAILED}


@pytest.mark.parametrize("change", Transition)
def test_what_waits_again_has_its_turn_and_what_ends_or_is_in_doubt_is_counted(change: Transition) -> None:
    (end,) = {end for (_, what), end in POSSIBLE.items() if what == change}
    assert FOLLOWS[change].waits is (end == "waiting")
    counted = {"sent": Tally.SENT, "failed": Tally.FAILED, "unsure": Tally.UNSURE}
    tried = change in {Transition.DEFERRED, Transition.RELEASED}
    assert FOLLOWS[change].tally is (Tally.PUT_OFF if tried else counted.get(end))


def test_the_application_hears_of_what_failed_and_of_what_was_not_sent_after_all() -> None:
    assert {change: it.event for change, it in FOLLOWS.items() if it.event} == {
        Transition.FAILED: EventType.RECIPIENT_FAILED, Transition.UNDONE: EventType.RECIPIENT_SENT_UNDONE,
    }  # fmt: skip


# The same for jobs: status, request, what follows; what is not here is refused.
ASKED = {
    **{(status, "cancel"): "cancelled" for status in ("queued", "sending", "paused", "cancelled")},
    **{(status, "pause"): "paused" for status in ("queued", "sending", "paused")},
    ("queued", "resume"): "queued",
    ("sending", "resume"): "sending",
    ("paused", "resume"): "sending",
    **{(status, "retry"): status for status in ("queued", "sending", "paused")},
    ("completed", "retry"): "sending",
    **{(status, "priority"): status for status in ("queued", "sending", "paused", "completed", "cancelled")},
}


@pytest.mark.parametrize("status", JobStatus)
@pytest.mark.parametrize("change", JobChange)
def test_a_request_leads_where_the_table_says_or_is_refused(status: JobStatus, change: JobChange) -> None:
    if expected := ASKED.get((status.value, change.value)):
        assert job_after(status, change) is JobStatus(expected)
    else:
        with pytest.raises(ImpossibleRequestError):
            job_after(status, change)


@pytest.mark.parametrize("change", list(JobChange))
def test_asking_twice_is_as_good_as_asking_once(change: JobChange) -> None:
    for status in JobStatus:
        if (status.value, change.value) in ASKED:
            once = job_after(status, change)
            assert job_after(once, change) is once
