"""What holds up that an application hears of everything, once and in order, broken on purpose."""

from __future__ import annotations

from typing import Final

from tests.chaos.mutation import Mutation

_FEED: Final = "tests/store/test_event_feed.py::"
_LOST: Final = "tests/webhooks/test_lost_commits.py::"
_SENT: Final = "tests/webhooks/test_sent_events.py::"
OF_EVENTS: Final = (
    Mutation(
        "places are given without the lock of the row that counts them",
        "mailerd/store/write/event_feed.py",
        "WHERE id = 1 FOR UPDATE SKIP LOCKED",
        "WHERE id = 1",
        _FEED + "test_a_daemon_that_is_frozen_while_it_gives_places_holds_up_no_reader",
    ),
    Mutation(
        "a reader waits for whoever gives places",
        "mailerd/store/write/event_feed.py",
        "WHERE id = 1 FOR UPDATE SKIP LOCKED",
        "WHERE id = 1 FOR UPDATE",
        _FEED + "test_a_daemon_that_is_frozen_while_it_gives_places_holds_up_no_reader",
    ),
    Mutation(
        "a reader waits for a transaction that repeats an event",
        "mailerd/store/write/event_feed.py",
        "ORDER BY id FOR UPDATE SKIP LOCKED",
        "ORDER BY id FOR UPDATE",
        _FEED + "test_a_daemon_that_is_frozen_while_it_repeats_an_event_holds_up_no_reader",
    ),
    Mutation(
        "the feed goes by the ids of the table",
        "mailerd/store/write/event_feed.py",
        "SET position = %s + FIELD(id, {ids})",
        "SET position = id + 0 * (%s + FIELD(id, {ids}))",
        _FEED + "test_what_is_committed_late_comes_later_and_holds_up_nothing",
    ),
    Mutation(
        "a restored database is passed over",
        "mailerd/store/write/event_feed.py",
        "if after > max(before or 0, pruned):",
        "if after < 0:",
        _FEED + "test_a_database_that_was_restored_from_before_is_told_and_not_passed_over",
    ),
    Mutation(
        "a client that has seen what a failover has lost is led past it",
        "mailerd/store/write/event_feed.py",
        "if after > max(before or 0, pruned):",
        "if after > last:",
        _LOST + "test_a_client_that_has_seen_what_is_lost_is_told",
    ),
    Mutation(
        "a server that takes over gives places of the feed again",
        "mailerd/store/write/event_feed.py",
        "if server == _RESTORED or (server and here and server != here):",
        "if server == here == '':",
        _LOST + "test_a_server_that_takes_over_gives_no_place_again",
    ),
    Mutation(
        "the same server leaps whenever it is started",
        "mailerd/store/write/event_feed.py",
        "cursor.server.partition(SINCE)[0]",
        "cursor.server",
        _LOST + "test_a_server_is_the_same_whenever_it_was_started",
    ),
    Mutation(
        "webhooks walk over every place of a leap",
        "mailerd/store/write/webhooks.py",
        "up_to = full or last",
        "up_to = min(last, position + BATCH)",
        _LOST + "test_webhooks_get_every_event_across_the_leap_in_a_few_transactions",
    ),
    Mutation(
        "what is sent is told though nobody asks",
        "mailerd/store/write/event_feed.py",
        """types LIKE '%%"recipients.sent"%%')""",
        "0 = 0)",
        _SENT + "test_nothing_is_written_unless_somebody_asks",
    ),
    Mutation(
        "nobody is taken to ask for what is sent",
        "mailerd/store/write/messages.py",
        "utc(at), bool(asked)",
        "utc(at), False",
        _SENT + "test_what_is_sent_from_then_on_is_told_in_an_event_for_each_job_and_commit",
    ),
    Mutation(
        "a sent message is told again by whatever is learnt of it",
        "mailerd/store/write/messages.py",
        "if row.status == State.SENT != first[id_].status])",
        "if row.status == State.SENT])",
        _SENT + "test_an_answer_that_came_after_its_claim_is_told_once",
    ),
    Mutation(
        "a message that is settled as sent is not told",
        "mailerd/store/write/messages.py",
        "if row.status == State.SENT != first[id_].status])",
        "if row.status == State.SENT and first[id_].status == State.SENDING])",
        _SENT + "test_a_doubt_that_a_person_settles_as_sent_is_told_too",
    ),
    Mutation(
        "a message that the log knows as sent is not told",
        "mailerd/store/write/messages.py",
        "    await sent_events(cursor, [id_ for",
        "    await sent_events(cursor, [] and [id_ for",
        _SENT + "test_what_the_log_knows_of_a_message_that_is_not_handed_over_is_told_once",
    ),
    Mutation(
        "a failed message of a batch has no event",
        "mailerd/core/states.py",
        "Transition.FAILED: Consequences(Tally.FAILED, EventType.RECIPIENT_FAILED),",
        "Transition.FAILED: Consequences(Tally.FAILED),",
        _FEED + "test_a_message_that_failed_has_its_event_in_the_same_commit_and_a_sent_one_has_none",
    ),
    Mutation(
        "a record that its row did not take has an event",
        "mailerd/core/moves.py",
        "return Move(row, row, None, it.message.sender, [line])",
        "return Move(row, row, decision.transition, it.message.sender, [line])",
        _FEED + "test_a_worker_that_was_fenced_off_writes_no_event",
    ),
    Mutation(
        "a repeated transaction is refused for an event that is there",
        "mailerd/store/write/event_feed.py",
        " ON DUPLICATE KEY UPDATE uid = events.uid",
        "",
        "tests/store/test_outbox.py::test_an_event_that_a_repeated_transaction_writes_again_stays_one",
    ),
    Mutation(
        "each prolongation of a pause has an event",
        "mailerd/store/write/sender_changes.py",
        "if was != cause and now is not None:",
        "if now is not None:",
        _FEED + "test_pauses_and_their_ends_have_events_and_a_prolonged_pause_has_none",
    ),
    Mutation(
        "a job that is paused again has an event again",
        "mailerd/store/write/job_actions.py",
        "                if status is not job.status:  # a pause",
        "                if status:  # a pause",
        _FEED + "test_what_is_asked_of_a_job_has_an_event_where_it_changes_something",
    ),
    Mutation(
        "a cancelled job that finishes at once has no event of that",
        "mailerd/store/write/job_actions.py",
        "        await job_changes.complete(cursor, [job.id])",
        "        await job_changes.complete(cursor, [])",
        _FEED + "test_what_is_asked_of_a_job_has_an_event_where_it_changes_something",
    ),
    Mutation(
        "a key for certain senders sees every event",
        "mailerd/intake/events_endpoint.py",
        "senders=key.senders",
        "senders=None",
        "tests/intake/test_events_endpoint.py::test_a_key_for_certain_senders_sees_their_events_only",
    ),
    Mutation(
        "a stream that broke begins anew",
        "mailerd/intake/events_endpoint.py",
        "reader.after = int(last)",
        "reader.after = reader.after + 0 * int(last)",
        "tests/intake/test_events_endpoint.py::test_a_stream_that_broke_is_taken_up_where_it_was",
    ),
)
