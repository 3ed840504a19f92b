"""What a reader feels of a page on a slow machine and line: when it is there, whether it moves, how soon it reacts."""

from dataclasses import dataclass
from typing import Final

from playwright.async_api import Page

CPU: Final = 4
"""So many times slower."""
LATENCY_MS: Final = 150
BYTES_PER_S: Final = 1_600_000 / 8
_OBSERVE: Final = """() => {
window.vitals = { lcp: 0, cls: 0, inp: 0, moved: [] };
const watch = (type, take) => new PerformanceObserver((list) => list.getEntries().forEach(take))
    .observe({ type, buffered: true, durationThreshold: 16 });
watch("largest-contentful-paint", (it) => { vitals.lcp = it.startTime; });
watch("layout-shift", (it) => { if (it.hadRecentInput) return; vitals.cls += it.value;
    const nodes = it.sources.map(({ node }) => node && (node.outerHTML ? node : node.parentElement)).filter(Boolean);
    vitals.moved.push(...nodes.map((node) => node.outerHTML.slice(0, 150))); });
watch("event", (it) => { if (it.interactionId) vitals.inp = Math.max(vitals.inp, it.duration); });
}"""
"""It hears of what was before it too."""
_PAINTED: Final = "() => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)))"
_READ: Final = "() => [vitals.lcp, vitals.cls, vitals.inp, vitals.moved]"


@dataclass(frozen=True)
class Vitals:
    """Of one page."""

    lcp_ms: float
    """Until its largest part is painted."""
    cls: float
    """How much of it moved while nobody touched it."""
    inp_ms: float
    """From a click or a key to the next paint, at most."""
    moved: list[str]


async def slow_down(page: Page, *, cpu: int = CPU) -> None:
    """Make the machine and the line slow."""
    devtools = await page.context.new_cdp_session(page)
    await devtools.send("Emulation.setCPUThrottlingRate", {"rate": cpu})
    line = {"latency": LATENCY_MS, "downloadThroughput": BYTES_PER_S, "uploadThroughput": BYTES_PER_S}
    await devtools.send("Network.emulateNetworkConditions", {"offline": False} | line)


async def vitals_of(page: Page, url: str) -> Vitals:
    """Load a page, unfold its menu, type into the search and, where there is one, into a form's field."""
    await page.goto(url, wait_until="networkidle" if "/send/" in url else "load")
    await page.evaluate(_OBSERVE)
    await page.evaluate(_PAINTED)
    lcp, cls, _, moved = await page.evaluate(_READ)
    menu = page.locator("header .menu > summary").locator("visible=true")
    await menu.click()
    await page.locator("header input[type=search]").locator("visible=true").press_sequentially("r70")
    await menu.click()
    for field in await page.locator("main input[type=search]:visible, main #reference:visible").all():
        await field.press_sequentially("ab")
    for box in (await page.locator("main td input[type=checkbox]:visible").all())[:2]:
        await box.click()
    await page.evaluate(_PAINTED)
    _, _, inp, _ = await page.evaluate(_READ)
    return Vitals(lcp, cls, inp, moved)
