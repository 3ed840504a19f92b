"""Slow templates wait for one another, in a child of their own; what a child has refused costs no child."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import uvloop

from mailerd.mail import cage, renderer
from mailerd.mail.templates import Content, RecipientData, Template, TemplateErrors
from tests.mail.test_bounds import GOOD, READER, a_template
from tests.support.eventually import eventually
from tests.support.heard import Heard
from tests.support.rendering import rendering


async def test_a_template_that_cannot_be_used_costs_no_child_however_often_it_comes() -> None:
    heard, refused = Heard(), a_template("{% macro a() %}{% endmacro %}")
    async with rendering(heard) as it:
        for _ in range(3):
            with pytest.raises(TemplateErrors, match="macro"):
                await it.render(refused, [READER], origin="o")
    assert not heard.of("renderer_ended")


SLOW = "{% for a in range(90000) %}{% if a is divisibleby 7 %}x{% endif %}{{ a }}{% endfor %}"
"""Some 70 ms a message, and accepted."""


async def test_a_slow_template_gives_nobody_else_its_pace() -> None:
    slow = a_template(SLOW)
    bomb = a_template("{% set t = (1, 1) %}" + "{% set t = (t, t) %}" * 40 + "{{ {}[t] is defined }}")
    async with rendering() as it:
        alone = await _hundred(it)
        for theirs in (slow, bomb):
            stranger = f"a stranger with {len(theirs.default.html or '')}"
            await it.render(theirs, [READER], origin=stranger)  # this is what tells
            waiting = asyncio.create_task(it.render(theirs, [READER] * 500, origin=stranger))
            await asyncio.sleep(0)
            took = await _hundred(it)
            assert not waiting.done()
            waiting.cancel()
            assert took < 2.0 + 4 * alone, "a hundred turns of the stranger take five seconds and more"


async def test_a_message_that_takes_too_long_among_the_quick_ones_is_made_among_the_slow_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(renderer, "_QUICK_CPU", 0.02)
    heard = Heard()
    async with rendering(heard) as it:
        (made,) = await it.render(a_template(SLOW), [READER], origin="a stranger", owner="a key")
        assert isinstance(made, Content)
        assert [each["cause"] for each in heard.of("renderer_ended")] == ["takes too long"]
        assert it.is_slow("another mailbox", owner="a key"), "its other mailboxes would do the same"
        assert not it.is_slow("another mailbox", owner="another key")


async def _hundred(it: renderer.Renderer) -> float:
    """Seconds for a hundred good messages, one after the other."""
    started = time.monotonic()
    for _ in range(100):
        await it.render(GOOD, [READER], origin="somebody else")
    return time.monotonic() - started


async def test_an_origin_that_is_slow_no_longer_is_one_of_many_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renderer, "_SLOW_FOR", 0.1)
    monkeypatch.setattr(cage, "IDLE_TIMEOUT", 0.5)
    slow = a_template(SLOW)
    async with rendering() as it:
        for _ in range(100):  # on a busy machine it may count as slow no longer when its next message comes
            await it.render(slow, [READER], origin="a stranger")
            if it._slow_worker.pid is not None:
                break
        else:
            pytest.fail("it never had the child of the slow")

        async def the_child_of_the_slow_has_ended() -> bool:
            return it._slow_worker.pid is None

        await eventually(the_child_of_the_slow_has_ended)
        await it.render(GOOD, [READER], origin="a stranger")
        assert it._slow_worker.pid is None
        assert not it.is_slow("a stranger")


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_child_that_was_killed_while_it_had_nothing_to_do_is_nobodys_fault(
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def work() -> None:
        async with rendering() as it:
            await it.render(GOOD, [READER], origin="o")
            for _ in range(3):
                child = it._worker.pid
                assert child is not None
                os.kill(child, signal.SIGKILL)

                async def is_gone(process: Path = Path(f"/proc/{child}")) -> bool:
                    return not await asyncio.to_thread(process.exists)

                await eventually(is_gone)
                for _ in range(2):
                    (made,) = await it.render(GOOD, [READER], origin="o")
                    assert isinstance(made, Content)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(work())


async def test_a_small_request_does_not_wait_for_the_end_of_its_origins_large_one() -> None:
    async with rendering() as it:
        large = asyncio.create_task(it.render(GOOD, [READER] * 100_000, origin="one key"))
        await asyncio.sleep(0)
        async with asyncio.timeout(30):
            (made,) = await it.render(GOOD, [READER], origin="one key")
        assert isinstance(made, Content)
        assert not large.done()
        large.cancel()


async def test_a_turn_has_no_more_than_a_million_characters_and_a_few_messages_of_a_slow_template(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = _asked(monkeypatch)
    readers = [RecipientData("r@example.com", None, json.dumps({"x": "x" * 300_000})) for _ in range(10)]
    async with rendering() as it:
        await it.render(GOOD, readers, origin="o")
        assert asked == [4, 4, 2]
        asked.clear()
        slow = a_template("{% for a in range(9000) %}{% if a is divisibleby 7 %}x{% endif %}{{ a }}{% endfor %}")
        await it.render(slow, [READER] * 100, origin="o")
    assert asked[0] == 100
    assert max(asked[1:]) < 60, asked  # some 7 ms a message: it was given those that it left again and again


async def test_messages_behind_one_that_was_stopped_go_together_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each went alone, to the end of the request: a busy loop makes that some milliseconds a message."""
    asked = _asked(monkeypatch)
    template = a_template("{% if bad %}{{ ('a' * 10 ** 9)|length }}{% endif %}x")
    readers = [RecipientData("r@example.com", None, json.dumps({"bad": number == 5})) for number in range(60)]
    async with rendering() as it:
        made = await it.render(template, readers, origin="o")
    assert [number for number, each in enumerate(made) if not isinstance(each, Content)] == [5]
    assert asked == [60, 1, 1, 1, 1, 1, 1, 1, 1, 53]  # together; five good, the bad one twice, a good one; together


def _asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many messages go to a child at once, from now on."""
    asked: list[int] = []
    ask = renderer.RenderWorker.ask

    async def noted(
        it: renderer.RenderWorker, template: Template, recipients: Sequence[RecipientData], **how: bool
    ) -> Mapping[str, Any]:
        asked.append(len(recipients))
        return await ask(it, template, recipients, content=how["content"], tell=how["tell"])

    monkeypatch.setattr(renderer.RenderWorker, "ask", noted)
    return asked


async def test_origins_that_are_quick_take_turns() -> None:
    for requests, messages in ((1, 50_000), (300, 100)):
        async with rendering() as it:
            many = [asyncio.create_task(it.render(GOOD, [READER] * messages, origin="many")) for _ in range(requests)]
            await asyncio.sleep(0)
            await it.render(GOOD, [READER] * 1_000, origin="few")
            assert not all(each.done() for each in many)
            await asyncio.gather(*many)
