"""Examines the endpoints of webhooks: whether they take events, and whether their addresses may be reached."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from mailerd.cli.checks.result import CheckResult, fail, ok, warn
from mailerd.config.webhook_settings import WebhookSettings
from mailerd.core.stats import WebhookStats
from mailerd.ops.outbound_http import OutboundHttp
from mailerd.store.db.database import Database
from mailerd.store.describe import span
from mailerd.store.stats import read_webhooks
from mailerd.store.webhooks import WebhookEndpoint, Webhooks

MAX_SHOWN: Final = 20
"""Endpoints with a finding of their own."""


async def examine(database: Database, settings: WebhookSettings, *, bound: float) -> list[CheckResult]:
    """The findings; none where there is no endpoint. Nothing is posted."""
    stats = await database.read(read_webhooks, what="look at webhooks", bound=bound)
    known = {it.name: it for it in await Webhooks(database, timeout=bound).all()}
    return evaluate([(it, known[it.name]) for it in stats if it.name in known], OutboundHttp(settings.network_rules))


def evaluate(found: Sequence[tuple[WebhookStats, WebhookEndpoint]], http: OutboundHttp) -> list[CheckResult]:
    """A finding for each endpoint that gets no events, and one for all the others."""
    bad = [result for stats, endpoint in found if (result := _trouble(stats, http.refusal(endpoint.url)))]
    well = len(found) - len(bad)
    words = f"{well} of {len(found)} endpoints are on, and no last attempt of theirs failed; none was tried now"
    good = [ok("webhooks", words)] if well else []
    return [*good, *bad[:MAX_SHOWN]]


def _trouble(it: WebhookStats, refusal: str) -> CheckResult | None:
    check, failing = f"webhook: {it.name}", span(timedelta(seconds=it.failing))
    show = f"mailerd webhooks test {it.name}"
    if refusal:
        return fail(check, f"its URL may not be requested: {refusal}", remedy="change the URL, or `[webhooks]`")
    match it.standing:
        case "on":
            return None
        case "paused_manually":  # who ordered it knows it
            return ok(check, "a person has paused it: it gets no events before it is resumed")
        case "failing":
            what = f"it has failed for {failing}; {it.undelivered:,} events wait"
            return warn(check, what, remedy=show)
        case "paused":
            remedy = f"{show}, then mailerd webhooks resume {it.name}"
            what = f"it is paused, since it failed; {it.undelivered:,} events of before wait, and all that came since"
            return fail(check, what, remedy=remedy)
        case _:
            return warn(check, "it answered 410 and gets nothing more", remedy=f"mailerd webhooks remove {it.name}")
