"""What is broken on purpose in the bounds of templates: what, file, line, what is put there, and the test."""

from typing import Final

from tests.chaos.mutation import Mutation

_BOUNDS: Final = "tests/mail/test_bounds.py::"
OF_RENDERER: Final = (
    Mutation(
        "a message may take all the CPU time that it wants",
        "mailerd/mail/cage.py",
        "    signal.setitimer(signal.ITIMER_PROF, cpu)\n",
        "",
        _BOUNDS + "test_a_message_has_its_seconds_of_cpu_and_the_parent_need_not_wait_for_its_own_clock",
    ),
    Mutation(
        "the second wall of CPU time is missing",
        "mailerd/mail/cage.py",
        "    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))\n",
        "",
        _BOUNDS + "test_the_kernels_own_limit_of_cpu_time_stands_behind_the_timer",
    ),
    Mutation(
        "memory is not bounded",
        "mailerd/mail/cage.py",
        "        (resource.RLIMIT_AS, memory),\n",
        "",
        _BOUNDS + "test_the_child_has_nothing_of_its_parents_and_can_open_nothing",
    ),
    Mutation(
        "the child can open files and sockets",
        "mailerd/mail/cage.py",
        "        (resource.RLIMIT_NOFILE, 0),",
        "        (resource.RLIMIT_NOFILE, 3),",
        _BOUNDS + "test_nothing_can_be_opened_in_the_child_whatever_it_closes",
    ),
    Mutation(
        "the child inherits the environment",
        "mailerd/mail/cage.py",
        "stderr=pipe, env={}, cwd",
        "stderr=pipe, cwd",
        _BOUNDS + "test_the_child_has_nothing_of_its_parents_and_can_open_nothing",
    ),
    Mutation(
        "a child that hangs is waited for",
        "mailerd/mail/cage.py",
        "            async with asyncio.timeout(timeout := timeout or ANSWER_TIMEOUT):",
        "            async with asyncio.timeout(None):",
        _BOUNDS + "test_a_child_that_hangs_is_killed_and_the_message_made_by_another",
    ),
    Mutation(
        "the other messages of a batch are blamed too",
        "mailerd/mail/renderer.py",
        '"bound": True}]}',
        '"bound": True}] * MAX_TURN}',
        _BOUNDS + "test_the_messages_beside_one_that_ends_the_renderer_are_made_without_it",
    ),
    Mutation(
        "a message is blamed without a fresh child",
        "mailerd/mail/renderer.py",
        "return await self._answer_alone(request, worker)",
        "return _blamed(ChildEndedError('ended', part=None), compiling=not request.recipients)",
        _BOUNDS + "test_a_message_is_blamed_only_for_the_end_of_a_child_that_had_done_nothing_else",
    ),
    Mutation(
        "a message is blamed that was not alone",
        "mailerd/mail/renderer.py",
        "if not request.one_at_a_time or (ended.by_work and worker is self._worker):",
        "if ended.by_work and worker is self._worker:",
        _BOUNDS + "test_the_messages_beside_one_that_ends_the_renderer_are_made_without_it",
    ),
    Mutation(
        "a message is blamed for what it takes among the quick ones",
        "mailerd/mail/renderer.py",
        " or (ended.by_work and worker is self._worker):",
        ":",
        "tests/mail/test_turns.py::test_a_message_that_takes_too_long_among_the_quick_ones_is_made_among_the_slow_ones",
    ),
    Mutation(
        "origins do not take turns",
        "mailerd/mail/renderer.py",
        "        own = self._owners.setdefault(request.owner, asyncio.Lock())\n",
        "        own = asyncio.Lock()\n",
        "tests/mail/test_turns.py::test_origins_that_are_quick_take_turns",
    ),
    Mutation(
        "slow templates are rendered among the others",
        "mailerd/mail/renderer.py",
        "self._slow_worker if self.is_slow(request.origin, owner=request.owner) else self._worker",
        "self._worker",
        "tests/mail/test_turns.py::test_a_slow_template_gives_nobody_else_its_pace",
    ),
    Mutation(
        "the child is asked for a template that it has refused",
        "mailerd/mail/renderer.py",
        "            self._loaded.pop(template, None)\n",
        "            pass\n",
        "tests/mail/test_turns.py::test_a_template_that_cannot_be_used_costs_no_child_however_often_it_comes",
    ),
    Mutation(
        "messages that wait behind slow templates hold the places of others",
        "mailerd/gmail/client.py",
        "len(self._on_time) - self._aside",
        "len(self._on_time)",
        "tests/gmail/test_concurrency.py"
        "::test_a_message_that_waits_behind_slow_templates_takes_no_room_from_others_until_it_asks_for_a_slot",
    ),
    Mutation(
        "messages learn only at their turn that they wait behind slow ones",
        "mailerd/mail/renderer.py",
        "owner=each.owner):\n                each.on_slow()\n",
        "owner=each.owner):\n                pass\n",
        "tests/mail/test_render_batches.py"
        "::test_messages_learn_at_once_that_they_wait_behind_slow_ones_also_those_of_their_owners_other_origins",
    ),
    Mutation(
        "the rest of a job is tried, however many of its messages had to be stopped",
        "mailerd/mail/renderer.py",
        "if before and stopped >= MAX_STOPPED:",
        "if False and before:",
        "tests/mail/test_render_batches.py"
        "::test_after_three_messages_that_had_to_be_stopped_the_rest_of_their_job_is_not_tried",
    ),
    Mutation(
        "a large message holds its slot in memory while it is rendered",
        "mailerd/worker/message_builder.py",
        "        content = await self._render(it, message",
        "        await room.enter_async_context(self._attachments.memory_slot(job.attached_bytes))\n"
        "        content = await self._render(it, message",
        "tests/worker/test_message_builder.py::test_large_messages_that_are_being_rendered_hold_no_slot_in_memory",
    ),
    Mutation(
        "a template can tell a check by its link",
        "mailerd/intake/job_reader_child.py",
        "encode_token(secrets.token_bytes(TOKEN_BYTES))",
        "DEAD_TOKEN",
        "tests/intake/test_suppressions.py::test_a_template_cannot_tell_the_link_of_the_check_from_one_that_is_sent",
    ),
    Mutation(
        "a link says which recipient it is for",
        "mailerd/core/suppression.py",
        "mask = hmac.digest(key, mac, hashlib.sha256)",
        "mask = bytes(32)",
        "tests/core/test_suppression.py::test_without_the_key_a_token_is_like_any_random_bytes",
    ),
    Mutation(
        "what a template raises ends the child",
        "mailerd/mail/render.py",
        "                self.render(variables)\n",
        "                self._run(environment, variables)\n",
        _BOUNDS + "test_whatever_a_template_raises_is_an_error_with_its_line_and_ends_no_child",
    ),
    Mutation(
        "messages of a slow sender are claimed as before",
        "mailerd/gmail/client.py",
        "        self.shrink(message.sender)\n",
        "",
        "tests/daemon/test_slow_templates.py::test_the_others_go_on_beside_a_sender_whose_template_is_slow",
    ),
    Mutation(
        "the check renders without CSS",
        "mailerd/mail/render.py",
        "if html is not None and self._template.inline_css:",
        "if html is not None and self._template.inline_css and False:",
        _BOUNDS + "test_css_that_is_nested_too_deeply_ends_the_child_and_not_the_daemon",
    ),
    Mutation(
        "a renderer that does not start costs an attempt",
        "mailerd/worker/message_builder.py",
        "return Decision(Transition.RELEASED, error=why, wait=_RENDERER_WAIT)",
        "return Decision(Transition.DEFERRED, error=why, wait=_RENDERER_WAIT)",
        "tests/daemon/test_slow_templates.py::test_a_renderer_that_does_not_start_costs_no_message_an_attempt",
    ),
    Mutation(
        "a child that has ended is a bug to uvloop",
        "mailerd/mail/cage.py",
        "except (OSError, RuntimeError, asyncio",
        "except (OSError, asyncio",
        "tests/mail/test_children.py::test_a_child_that_has_ended_says_so_when_it_is_asked",
    ),
)
