"""What a reader on a slow machine and line feels of the pages of a large installation, in a real browser."""

import asyncio
from collections.abc import Sequence
from typing import Final

from tests.bench.console import BIG_JOB, MESSAGES, draft, filled
from tests.bench.result import Result
from tests.web.browser import VIEWS, chromium
from tests.web.vitals import Vitals, slow_down, vitals_of

_TIMES: Final = 3
"""Views of a page; the worst counts."""
_GOALS: Final = (("LCP", "ms", 1500.0), ("CLS", "", 0.0), ("INP", "ms", 200.0))


def vitals(*, messages: int = MESSAGES) -> Sequence[Result]:
    """LCP, CLS and INP of the pages that people use most."""
    with filled(messages) as (it, daemon, cookie):
        paths = ["/", "/jobs", f"/jobs/{BIG_JOB}", "/people?q=r7000", "/templates", *draft(it, daemon, cookie)]
        found = asyncio.run(_look(f"http://127.0.0.1:{daemon.port}", cookie, paths))
    names = [*paths[:2], "/jobs/large", *paths[3:5], "/send people", "/send message", "/send review"]
    return [
        Result(f"{what} of {name}", value, goal, "at most", unit)
        for name, each in zip(names, found, strict=True)
        for (what, unit, goal), value in zip(_GOALS, (each.lcp_ms, each.cls, each.inp_ms), strict=True)
    ]


async def _look(url: str, cookie: str, paths: Sequence[str]) -> list[Vitals]:
    """The worst of some views of each page, the first of them with an empty cache."""
    found = list[Vitals]()
    name, _, value = cookie.partition("=")
    async with chromium() as browser:
        for path in paths:
            context = await browser.new_context(**VIEWS["desktop"])
            await context.add_cookies([{"name": name, "value": value, "url": url}])
            page = await context.new_page()
            await slow_down(page)
            views = [await vitals_of(page, url + path) for _ in range(_TIMES)]
            moved = [text for it in views for text in it.moved]
            lcp, cls, inp = (max(each) for each in zip(*((it.lcp_ms, it.cls, it.inp_ms) for it in views), strict=True))
            found.append(Vitals(lcp, cls, inp, moved))
            await context.close()
    return found
