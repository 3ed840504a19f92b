"""The life of the renderer's children: started when needed, ended when idle, replaced when dead."""

import asyncio
import os
import signal
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from mailerd.events.worker import RendererEvents
from mailerd.mail import cage, table_checker
from mailerd.mail.cage import ChildProcess, Limits
from mailerd.mail.renderer import CHECK_LIMITS, Renderer
from mailerd.mail.templates import Content, RecipientData, RendererError, Source, Template, TemplateErrors
from tests.support.eventually import eventually
from tests.support.heard import PATIENCE, Heard
from tests.support.rendering import rendering

READER = RecipientData("reader@example.com", "Ada", '{"x": 1}')
GOOD = Template(Source("Hello {{ name }}", "<p>{{ x }}</p>", None))
BOMB = Template(Source("s", "{% set t = (1, 1) %}" + "{% set t = (t, t) %}" * 40 + "{{ {}[t] is defined }}", None))


async def test_a_message_is_blamed_however_busy_the_others_are() -> None:
    """Others' turns came between the end of a child and the trial in the next one, which was never fresh then."""
    heard, done = Heard(), asyncio.Event()
    async with rendering(heard) as it:

        async def somebody_else() -> None:
            while not done.is_set():
                await it.render(GOOD, [READER], origin="somebody else")

        busy = asyncio.create_task(somebody_else())
        bad, slow_compile = BOMB, Template(Source("s", "{{ 1[1:2] if false else '' }}\n" * 6_000, None))
        async with asyncio.timeout(PATIENCE):
            (made,) = await it.render(bad, [READER], origin="a stranger")
            assert isinstance(made, list)
            with pytest.raises(TemplateErrors, match="takes too long"):
                await it.compile(slow_compile, origin="another stranger")
        done.set()
        await busy
    ends = [each["origin"] for each in heard.of("renderer_ended")]
    assert set(ends) == {"a stranger", "another stranger"}
    assert len(ends) <= 6


async def test_what_python_warns_of_does_not_fill_a_pipe_that_nobody_reads() -> None:
    warned = [Template(Source("s", "{{ 1[:] if false }}\n" * 200 + f"{n}", None)) for n in range(8)]
    async with rendering() as it, asyncio.timeout(cage.ANSWER_TIMEOUT):
        for template in warned:
            await it.render(template, [READER], origin="a stranger")


def test_a_child_that_died_while_it_was_idle_is_replaced_under_uvloop_too() -> None:
    async def kill_and_render() -> None:
        heard = Heard()
        async with rendering(heard) as it:
            await it.render(GOOD, [READER], origin="o")
            pid = it._worker.pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)

            async def has_gone() -> bool:
                return await asyncio.to_thread(_is_gone, pid)

            await eventually(has_gone)
            for _ in range(2):
                (made,) = await it.render(GOOD, [READER], origin="o")
                assert isinstance(made, Content)

    uvloop.run(kill_and_render())


def _is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_child_that_has_ended_says_so_when_it_is_asked(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """uvloop raises a RuntimeError where asyncio raises an OSError: its pipe is closed."""

    async def kill_and_ask() -> None:
        child = await ChildProcess.start(CHECK_LIMITS)
        await child.kill()
        await asyncio.sleep(0.05)  # uvloop closes its end of the pipe a moment later
        with pytest.raises(cage.ChildEndedError):
            await child.ask({})

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(kill_and_ask())


async def test_a_bug_in_asking_is_told_and_is_no_messages_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = Heard()
    async with rendering(heard) as it:
        await it.render(GOOD, [READER], origin="o")
        with monkeypatch.context() as patched:
            patched.setattr(cage, "encode_frame", lambda _: 1 // 0)
            with pytest.raises(RendererError, match="internal error in the renderer: ZeroDivisionError"):
                await it.render(GOOD, [READER], origin="o")
        (made,) = await it.render(GOOD, [READER], origin="o")
        assert isinstance(made, Content)
    assert isinstance(heard.of("renderer_crashed")[0]["error"], ZeroDivisionError)


def test_the_time_of_a_message_ends_with_its_answer() -> None:
    """The timer ran on, and the child died of it while it tidied up after a large message."""
    program = (
        "import io, signal\n"
        "from mailerd.mail.cage import encode_frame\n"
        "from mailerd.mail.renderer import template_to_json\n"
        "from mailerd.mail.render_child import Child\n"
        "from mailerd.mail.templates import Source, Template\n"
        "template = template_to_json(Template(Source('s', 'h', None)))\n"
        "asked = {'template': 1, 'load': template, 'forget': False, 'recipients': [['r@example.com', None, None]]}\n"
        "sink = io.BytesIO()\n"
        "Child(io.BytesIO(encode_frame({**asked, 'content': True, 'tell': False})), sink, cpu=9.0).serve()\n"
        "assert b'content' in sink.getvalue()\n"
        "print(signal.getitimer(signal.ITIMER_PROF)[0])\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert float(ran.stdout) == 0.0


async def test_a_child_without_work_is_ended_and_another_started_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cage, "IDLE_TIMEOUT", 0.05)
    heard = Heard()
    async with rendering(heard) as it:
        assert it._worker.pid is None, "none is started before there is work"
        for _ in range(2):
            await it.render(GOOD, [READER], origin="o")

            async def has_ended() -> bool:
                return it._worker.pid is None

            await eventually(has_ended)
    assert heard.names() == []


async def test_a_child_that_is_kept_is_there_before_the_first_message() -> None:
    async with Renderer("of the test", limits=CHECK_LIMITS, events=RendererEvents(Heard()), keep=True) as it:

        async def is_there() -> bool:
            return it._worker.pid is not None

        await eventually(is_there)


async def test_after_three_messages_that_had_to_be_stopped_the_others_of_a_request_are_not_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mailerd.mail.cage.ANSWER_TIMEOUT", PATIENCE)
    heard = Heard()
    async with rendering(heard) as it, asyncio.timeout(PATIENCE):
        made = await it.render(BOMB, [READER] * 300, origin="a stranger", content=False)
    said = [str(each[0]) for each in made if isinstance(each, list)]
    assert said[:3] == ["html: the template takes too long"] * 3
    assert len(said) == 300
    assert all("not tried: 3 messages" in each for each in said[3:])
    assert len(heard.of("renderer_ended")) <= 7


@pytest.mark.parametrize("messages", [1, 3])
@pytest.mark.parametrize(
    "number, cause",
    [(signal.SIGSTOP, "did not respond within 0.5 s: it gets no CPU"), (signal.SIGKILL, "was killed, as when")],
    ids=["stopped", "killed"],
)
async def test_a_machine_without_cpu_or_memory_is_no_templates_fault(
    monkeypatch: pytest.MonkeyPatch, messages: int, number: signal.Signals, cause: str
) -> None:
    """Each child stands still or is killed, as where the machine swaps: the messages failed for good."""
    started = ChildProcess.start

    async def and_no_more(limits: Limits, *, module: str) -> ChildProcess:
        child = await started(limits, module=module)
        os.kill(child.pid, number)
        return child

    monkeypatch.setattr(cage, "ANSWER_TIMEOUT", 0.5)
    heard = Heard()
    async with rendering(heard) as it, asyncio.timeout(PATIENCE):
        with monkeypatch.context() as short:
            short.setattr(ChildProcess, "start", and_no_more)
            with pytest.raises(RendererError, match=f"the process that renders {cause}"):
                await it.render(GOOD, [READER] * messages, origin="o")
            with pytest.raises(RendererError, match=cause):
                await it.compile(GOOD, origin="o")
        assert not it.is_slow("o")
        assert await it.compile(GOOD, origin="o")
    assert all(each["cause"].startswith(cause) for each in heard.of("renderer_ended"))


async def test_a_child_whose_answer_is_no_frame_has_broken_over_its_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not end by itself: that it is killed for it is our own doing, and no sign of a machine without memory."""
    monkeypatch.setattr(cage, "MAX_FRAME", 2_000)
    long = Template(Source("s", "{{ 'x' * 5000 }}", None))
    async with rendering() as it, asyncio.timeout(PATIENCE):
        (made,) = await it.render(long, [READER], origin="o")
        assert isinstance(made, list)
        assert "the template broke the renderer (a frame of " in str(made[0])
        (good,) = await it.render(GOOD, [READER], origin="o")
        assert isinstance(good, Content)


async def test_a_killed_child_that_the_kernel_does_not_let_go_holds_up_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its disk or its swap does not answer: a signal waits for that, and the renderer must not."""
    monkeypatch.setattr(cage, "KILL_TIMEOUT", 0.2)
    child = await ChildProcess.start(CHECK_LIMITS)
    process, reaped = child._process, child._process.wait
    monkeypatch.setattr(process, "wait", asyncio.Event().wait)
    async with asyncio.timeout(10):
        await child.kill()
    assert await reaped() == -signal.SIGKILL


async def test_a_template_is_not_kept_in_memory_because_a_child_has_compiled_it() -> None:
    async with rendering() as it:
        template = Template(Source("s", "<p>{{ x }}</p>", None), variables={"pad": "x" * 1_000_000})
        known = weakref.ref(template)

        async def gone() -> bool:
            return known() is None

        await it.render(template, [READER], origin="o")
        del template
        await eventually(gone, within=5)


def niceness_of_session(pid: int) -> int | None:
    """None: Linux shares the CPU in another way here."""
    group = Path(f"/proc/{pid}/autogroup")
    return int(group.read_text().split()[-1]) if group.exists() else None


@pytest.mark.parametrize("name", ["table_checker", "spreadsheet", "copied_draft"])
async def test_who_works_on_an_upload_gives_way_also_where_the_cpu_is_shared_by_sessions(name: str) -> None:
    child = await ChildProcess.start(table_checker.LIMITS, module=f"mailerd.mail.{name}_child")
    try:
        assert os.getpriority(os.PRIO_PROCESS, child.pid) == min(19, os.getpriority(os.PRIO_PROCESS, 0) + 5)
        assert niceness_of_session(child.pid) in {5, None}
    finally:
        await child.kill()
