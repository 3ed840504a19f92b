"""What is broken on purpose in the bounds of templates: what, file, line, what is put there, and the test."""

from typing import Final

from tests.chaos.mutation import Mutation

_BOUNDS: Final = "tests/mail/test_bounds.py::"
OF_RENDERER: Final = (
    Mutation(
        "a letter may take all the CPU time that it wants",
        "mailerd/mail/render_child.py",
        "    signal.setitimer(signal.ITIMER_PROF, cpu)\n",
        "",
        _BOUNDS + "test_a_letter_has_its_seconds_of_cpu_and_the_parent_need_not_wait_for_its_own_clock",
    ),
    Mutation(
        "the second wall of CPU time is missing",
        "mailerd/mail/render_child.py",
        "    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))\n",
        "",
        _BOUNDS + "test_the_kernels_own_limit_of_cpu_time_stands_behind_the_timer",
    ),
    Mutation(
        "memory is not bounded",
        "mailerd/mail/render_child.py",
        "        (resource.RLIMIT_AS, memory),\n",
        "",
        _BOUNDS + "test_the_child_has_nothing_of_its_parents_and_can_open_nothing",
    ),
    Mutation(
        "the child can open files and sockets",
        "mailerd/mail/render_child.py",
        "        (resource.RLIMIT_NOFILE, 3),",
        "        (resource.RLIMIT_NOFILE, 64),",
        _BOUNDS + "test_the_child_has_nothing_of_its_parents_and_can_open_nothing",
    ),
    Mutation(
        "the child inherits the environment",
        "mailerd/mail/child_process.py",
        "stderr=pipe, env={}, cwd",
        "stderr=pipe, cwd",
        _BOUNDS + "test_the_child_has_nothing_of_its_parents_and_can_open_nothing",
    ),
    Mutation(
        "a child that hangs is waited for",
        "mailerd/mail/child_process.py",
        "            async with asyncio.timeout(ANSWER_TIMEOUT):",
        "            async with asyncio.timeout(None):",
        _BOUNDS + "test_a_child_that_hangs_is_killed_and_the_letter_made_by_another",
    ),
    Mutation(
        "the other letters of a batch are blamed too",
        "mailerd/mail/renderer.py",
        '"bound": True}]}',
        '"bound": True}] * MAX_TURN}',
        _BOUNDS + "test_the_letters_beside_one_that_ends_the_renderer_are_made_without_it",
    ),
    Mutation(
        "a letter is blamed without a fresh child",
        "mailerd/mail/renderer.py",
        "return await self._answer_alone(request, worker)",
        "return _blamed(ChildEndedError('ended', part=None), compiling=not request.recipients)",
        _BOUNDS + "test_a_letter_is_blamed_only_for_the_end_of_a_child_that_had_done_nothing_else",
    ),
    Mutation(
        "a letter is blamed that was not alone",
        "mailerd/mail/renderer.py",
        "            if not request.one_at_a_time:\n",
        "            if False:\n",
        _BOUNDS + "test_the_letters_beside_one_that_ends_the_renderer_are_made_without_it",
    ),
    Mutation(
        "origins do not take turns",
        "mailerd/mail/renderer.py",
        "        own = self._origins.setdefault(request.origin, asyncio.Lock())\n",
        "        own = asyncio.Lock()\n",
        "tests/mail/test_turns.py::test_origins_that_are_quick_take_turns",
    ),
    Mutation(
        "slow templates are rendered among the others",
        "mailerd/mail/renderer.py",
        "self._slow_worker if request.origin in self._slow else self._worker",
        "self._worker",
        "tests/mail/test_turns.py::test_a_slow_template_gives_nobody_else_its_pace",
    ),
    Mutation(
        "the child is asked for a template that it has refused",
        "mailerd/mail/render_worker.py",
        "            self._loaded.pop(template, None)\n",
        "            pass\n",
        "tests/mail/test_turns.py::test_a_template_that_cannot_be_used_costs_no_child_however_often_it_comes",
    ),
    Mutation(
        "the letters of a slow sender fill the slots",
        "mailerd/worker/delivery.py",
        "if self.builder.is_slow(letter):",
        "if False:",
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
        'return Decision(Transition.RELEASED, error=f"nothing can be rendered now: {error}", wait=_RENDERER_WAIT)',
        'return Decision(Transition.DEFERRED, error=f"nothing can be rendered now: {error}", wait=_RENDERER_WAIT)',
        "tests/daemon/test_slow_templates.py::test_a_renderer_that_does_not_start_costs_no_letter_an_attempt",
    ),
    Mutation(
        "a child that has ended is a bug to uvloop",
        "mailerd/mail/child_process.py",
        "except (OSError, RuntimeError, asyncio",
        "except (OSError, asyncio",
        "tests/mail/test_children.py::test_a_child_that_has_ended_says_so_when_it_is_asked",
    ),
)
