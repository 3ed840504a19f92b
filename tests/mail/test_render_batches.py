"""Messages that are asked for one by one go to the child together, and each gets its own end."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from mailerd.events.worker import RendererEvents
from mailerd.mail import renderer as renderer_module
from mailerd.mail.cage import Limits
from mailerd.mail.renderer import CHECK_LIMITS, MAX_BATCH, MAX_STOPPED, RenderBatches, Rendered, Renderer
from mailerd.mail.templates import Content, RecipientData, RendererError, Source, Template, TemplateErrors
from tests.support.heard import Heard

NUMBERED = Template(Source("message {{ number }}", "<p>{{ number }}</p>", None))
# A template that only a recipient with `bomb` makes endless.
CHOSEN = Template(
    Source("message {{ number }}", "{% if bomb %}{% set t = (1, 1) %}" + "{% set t = (t, t) %}" * 40
           + "{{ {}[t] is defined }}{% endif %}", None)
)  # fmt: skip


class CountingRenderer(Renderer):
    """A renderer that notes how many messages each request had."""

    def __init__(self) -> None:
        super().__init__("of the test", limits=Limits(0.2, CHECK_LIMITS.memory), events=RendererEvents(Heard()))
        self.sizes: list[int] = []
        self.asked = asyncio.Event()

    async def render(
        self, template: Template, recipients: Sequence[RecipientData], *, origin: str, **options: Any
    ) -> list[Rendered]:
        self.sizes.append(len(recipients))
        self.asked.set()
        return await super().render(template, recipients, origin=origin, **options)


def reader(number: int, *, bomb: bool = False) -> RecipientData:
    return RecipientData(f"r{number}@example.com", None, f'{{"number": {number}, "bomb": {str(bomb).lower()}}}')


async def test_messages_that_wait_go_together_and_each_gets_its_own() -> None:
    async with CountingRenderer() as renderer:
        batches = RenderBatches(renderer)
        made = await asyncio.gather(
            *(batches.render(NUMBERED, reader(number), origin="o", batch="job") for number in range(3 * MAX_BATCH))
        )
        assert [each.subject for each in made if isinstance(each, Content)] == [
            f"message {number}" for number in range(3 * MAX_BATCH)
        ]
        assert renderer.sizes == [MAX_BATCH] * 3
        (alone,) = await asyncio.gather(batches.render(NUMBERED, reader(7), origin="o", batch="job"))
        assert isinstance(alone, Content), "a batch that has ended begins anew"


async def test_messages_that_must_be_stopped_fail_no_other_of_their_batch() -> None:
    bombs = MAX_STOPPED - 1
    async with CountingRenderer() as renderer, asyncio.timeout(60):
        batches = RenderBatches(renderer)
        made = await asyncio.gather(
            *(
                batches.render(CHOSEN, reader(number, bomb=number < bombs), origin="o", batch="job")
                for number in range(bombs + 3)
            )
        )
    assert [isinstance(each, Content) for each in made] == [False] * bombs + [True] * 3


async def test_after_three_messages_that_had_to_be_stopped_the_rest_of_their_job_is_not_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with CountingRenderer() as renderer, asyncio.timeout(60):
        batches = RenderBatches(renderer)

        async def render(*numbers: int, bomb: bool, batch: str = "job") -> list[str]:
            made = await asyncio.gather(
                *(batches.render(CHOSEN, reader(n, bomb=bomb), origin="o", batch=batch) for n in numbers)
            )
            return ["" if isinstance(each, Content) else str(each[0]) for each in made]

        assert await render(1, 2, bomb=True) == ["html: the template takes too long"] * 2
        assert await render(3, bomb=False) == [""]
        stopped, *others = await render(*range(4, 30), bomb=True)
        assert stopped == "html: the template takes too long"
        asked = len(renderer.sizes)
        others += await render(30, bomb=False)
        assert set(others) == {
            "html: not tried: 3 messages with this template had to be stopped, the last because the template takes "
            "too long"
        }
        assert len(renderer.sizes) == asked
        assert await render(31, bomb=False, batch="another job") == [""]
        monkeypatch.setattr(renderer_module, "STOPPED_FOR", 0.0)
        assert await render(1, bomb=True, batch="a third") == ["html: the template takes too long"]
        assert await render(*range(2, 5), bomb=False, batch="a third") == [""] * 3


async def test_messages_learn_at_once_that_they_wait_behind_slow_ones_also_those_of_their_owners_other_origins() -> (
    None
):
    slow = set[int]()
    async with CountingRenderer() as renderer, asyncio.timeout(60):
        batches = RenderBatches(renderer)

        def render(number: int, origin: str, *, owner: str = "key", bomb: bool = False) -> asyncio.Task[Rendered]:
            return asyncio.create_task(
                batches.render(
                    CHOSEN, reader(number, bomb=bomb), origin=origin, owner=owner, batch=origin,
                    on_slow=lambda: slow.add(number),
                )
            )  # fmt: skip

        bomb = render(0, "a", bomb=True)
        of_the_job, of_the_owner = render(1, "a"), render(2, "b")
        await renderer.asked.wait()
        late, stranger = render(3, "a"), render(4, "c", owner="another key")
        assert isinstance(await stranger, Content)
        assert not bomb.done()
        assert slow == {0, 1, 2, 3}
        await asyncio.gather(of_the_job, of_the_owner, late, bomb)
        await render(5, "d")
        assert slow == {0, 1, 2, 3, 5}


async def test_the_messages_of_a_slow_sender_go_one_by_one() -> None:
    async with CountingRenderer() as renderer, asyncio.timeout(60):
        batches = RenderBatches(renderer)
        await batches.render(CHOSEN, reader(0, bomb=True), origin="o", batch="job")
        assert renderer.is_slow("o")
        renderer.sizes.clear()
        await asyncio.gather(*(batches.render(CHOSEN, reader(n), origin="o", batch="job") for n in range(4)))
        assert renderer.sizes == [1, 1, 1, 1]


async def test_a_message_that_waits_no_more_is_not_rendered() -> None:
    async with CountingRenderer() as renderer:
        batches = RenderBatches(renderer)
        first = asyncio.create_task(batches.render(NUMBERED, reader(0), origin="o", batch="job"))
        await renderer.asked.wait()
        later = [asyncio.create_task(batches.render(NUMBERED, reader(n), origin="o", batch="job")) for n in (1, 2)]
        await asyncio.sleep(0)
        later[0].cancel()
        assert isinstance(await first, Content)
        assert isinstance(await later[1], Content)
        assert renderer.sizes == [1, 1]


async def test_every_message_learns_why_its_template_cannot_be_used() -> None:
    refused = Template(Source("s", "{% macro a() %}{% endmacro %}", None))
    async with CountingRenderer() as renderer:
        batches = RenderBatches(renderer)
        asked = [batches.render(refused, reader(n), origin="o", batch="job") for n in range(3)]
        ends = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(each, TemplateErrors) for each in ends)


async def test_a_renderer_that_is_closed_leaves_no_message_waiting() -> None:
    async with CountingRenderer() as renderer:
        batches = RenderBatches(renderer)
        asked = [
            asyncio.create_task(batches.render(CHOSEN, reader(n, bomb=True), origin="o", batch="job"))
            for n in range(2 * MAX_BATCH)
        ]
        await renderer.asked.wait()
    async with asyncio.timeout(60):
        ends = await asyncio.gather(*asked, return_exceptions=True)
    assert {type(each) for each in ends} == {RendererError}
    with pytest.raises(RendererError, match="closed"):
        await batches.render(NUMBERED, reader(0), origin="o", batch="job")
