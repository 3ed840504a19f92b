"""What holds up that no client harms another at the intake, broken on purpose."""

from __future__ import annotations

from typing import Final

from tests.chaos.mutation import Mutation

OF_INTAKE: Final = (
    Mutation(
        "one key may take every place for checks",
        "mailerd/http/auth.py",
        "self._held[key_id] < self.per_key and self._held.total() < self.places",
        "self._held.total() < self.places",
        "tests/intake/test_key_shares.py::test_slow_posts_of_one_key_do_not_hold_up_the_post_of_another",
    ),
    Mutation(
        "a small form becomes a large job without a place for it",
        "mailerd/web/send/post_job.py",
        "async with shares.large_bodies.place(it.key) if needs_place else nullcontext():",
        "if True:",
        "tests/web/test_tables.py::"
        "test_a_large_table_holds_the_place_of_a_large_body_and_is_refused_where_there_is_none",
    ),
    Mutation(
        "a job of another tenant shows that it is there",
        "mailerd/store/read/jobs.py",
        "None if job is None or (key and not key.may_send(job.sender_email)) else job",
        "job",
        "tests/intake/test_outsiders.py::test_the_job_of_another_tenant_is_not_there_at_every_path",
    ),
    Mutation(
        "a stream goes on for a key that may not see its job any more",
        "mailerd/intake/events_endpoint.py",
        "known is None or not known.may_send(job.sender_email)",
        "known is None",
        "tests/intake/test_outsiders.py::test_the_stream_of_a_key_that_loses_its_sender_ends",
    ),
    Mutation(
        "a large body may take all the memory that it wants",
        "mailerd/intake/job_reader.py",
        "memory = READ_LIMITS.memory + MEMORY_PER_BYTE * len(self._body)",
        "memory = 1 << 40",
        "tests/intake/test_bounds.py::test_a_body_of_too_many_values_takes_the_memory_of_the_cage_and_none_of_ours",
    ),
    Mutation(
        "a body may be read for ever",
        "mailerd/intake/job_reader_child.py",
        "        bound_cpu(READ_SECONDS)\n",
        "",
        "tests/intake/test_bounds.py::test_a_body_that_takes_too_long_is_refused",
    ),
    Mutation(
        "recipients that the cage has not answered are left out",
        "mailerd/intake/job_reader.py",
        "            if self._behind >= self._recipients:\n                return\n",
        "            return\n",
        "tests/intake/test_job_reader.py::test_a_job_whose_process_ends_is_read_on_where_it_was",
    ),
    Mutation(
        "recipients are read twice where a process has ended",
        "mailerd/intake/job_reader_child.py",
        'for _ in range(asked["behind"]):',
        "for _ in range(0):",
        "tests/intake/test_job_reader.py::test_a_job_whose_process_ends_is_read_on_where_it_was",
    ),
    Mutation(
        "a message may take the memory that is the body's",
        "mailerd/intake/job_reader_child.py",
        "        bound_memory(MESSAGE_MEMORY)\n",
        "",
        "tests/intake/test_job_reader.py::test_a_message_has_its_own_memory_however_large_the_body_is",
    ),
    Mutation(
        "a reason is as long as what it quotes",
        "mailerd/http/errors.py",
        "if len(reason) <= most:",
        "if reason:",
        "tests/intake/test_bounds.py::test_every_reason_is_short_where_it_is_made",
    ),
    Mutation(
        "the samples of a dry run are as long as the messages",
        "mailerd/http/responses.py",
        "while (size := json_size(text)) > most:",
        "while (size := json_size(text)) < 0:",
        "tests/intake/test_bounds.py::test_no_dry_run_is_above_a_megabyte",
    ),
    Mutation(
        "pages without a key are read by any name of a host",
        "mailerd/intake/api.py",
        'if not is_own_host(request.headers.get("Host", ""), self._hosts):',
        'if not request.headers.get("Host", ""):',
        "tests/intake/test_hosts.py::test_a_name_that_is_not_ours_is_refused",
    ),
    Mutation(
        "the answer for a stored job waits for its forecast",
        "mailerd/intake/create_job.py",
        "async with asyncio.timeout(FORECAST_TIMEOUT):",
        "async with asyncio.timeout(None):",
        "tests/intake/test_create_job.py::test_a_forecast_that_is_late_does_not_hold_up_the_200",
    ),
    Mutation(
        "long pages are read without rests between their turns",
        "mailerd/http/responses.py",
        "self._next = begins + TURN_INTERVAL",
        "self._next = begins",
        "tests/intake/test_row_pace.py::test_turns_of_all_who_read_are_apart",
    ),
    Mutation(
        "made-up sessions and links are looked up without a bound",
        "mailerd/http/auth.py",
        "self._failures.wait(address, per_minute=MAX_FAILURES_PER_MINUTE, now=now)",
        "pass",
        "tests/web/test_login.py::test_made_up_secrets_are_slowed_down_as_bad_keys_are_and_good_ones_are_not",
    ),
    Mutation(
        "who guesses at an address shuts out the good keys beside it",
        "mailerd/http/auth.py",
        "await self._is_active(shown) if is_key else shown in self._sessions",
        "shown in self._sessions",
        "tests/intake/test_permissions.py::test_a_good_key_that_was_never_used_is_not_shut_out_and_a_new_one_for_a_second",
    ),
    Mutation(
        "half-sent forms lock the sign-in for their address",
        "mailerd/web/frame/sign_in.py",
        "reading.pop(0).reschedule(0)",
        'raise RefusedError("busy", status=429)',
        "tests/web/test_login.py::test_an_address_has_few_forms_under_way_and_others_sign_in_beside_three_hundred",
    ),
    Mutation(
        "a stranger's requests keep everybody else waiting",
        "mailerd/http/server.py",
        "response.force_close()",
        "pass",
        "tests/web/test_login.py::test_requests_of_a_stranger_that_wait_for_no_answer_are_few_and_those_of_a_key_are_not",
    ),
    Mutation(
        "/metrics names every mailbox to whoever asks",
        "mailerd/intake/health.py",
        "key.may_send if key else lambda _: False",
        "key.may_send if key else lambda _: True",
        "tests/intake/test_metrics_page.py::test_without_a_key_no_mailbox_is_named_and_with_one_those_that_it_may_see",
    ),
)
