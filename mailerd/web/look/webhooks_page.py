"""Webhooks: endpoints that events are posted to, and the result of each delivery; tests, replays,
secrets.
"""

from collections.abc import Mapping
from datetime import timedelta

from aiohttp import web

from mailerd.core.i18n import t, tn
from mailerd.core.stats import WebhookStats
from mailerd.core.webhooks import ONLY_IF_ASKED, DeliveryStatus, EventType
from mailerd.events.runbook import RUNBOOKS
from mailerd.model.webhooks import TestedWebhook, Webhook
from mailerd.operations import webhooks
from mailerd.operations.inputs import WrongFieldError, read_fields
from mailerd.operations.webhooks import EventReplay, SecretRotation, WebhookChange, WebhookRequest
from mailerd.store.write.webhooks import UnknownWebhookError, WebhookError
from mailerd.web.frame.forms import Form, read_form, read_local_time
from mailerd.web.frame.services import MAX_LISTED, ConsoleRequest


def _counted(it: ConsoleRequest) -> Mapping[str, WebhookStats]:
    """What waits for each endpoint, as the daemon has counted it seconds ago; by name."""
    stats = it.services.stats()
    return {each.name: each for each in stats.webhooks} if stats else {}


async def show(it: ConsoleRequest) -> web.Response:
    """Every endpoint that the key may see."""
    found = await webhooks.index(it.caller)
    return it.page(
        "webhooks.html",
        active="webhooks",
        endpoints=found.webhooks,
        counted=_counted(it),
        types=list(EventType),
        only_if_asked=ONLY_IF_ASKED,
        live=True,
    )


async def add(it: ConsoleRequest) -> web.Response:
    """Make an endpoint; the page that follows shows its secret, once."""
    form = await read_form(it.http)
    try:
        made = await webhooks.create(it.caller, _described(it, form, WebhookRequest))
    except (WebhookError, WrongFieldError) as error:
        return it.back("/webhooks", str(error))
    return await _page(it, made, secret=made.secret)


def _described[M: (WebhookRequest, WebhookChange)](
    it: ConsoleRequest, form: Form, model: type[M]
) -> M:
    """What a form describes.

    Raises:
        WrongFieldError: what is wrong with it.
    """
    senders = [each.strip() for each in form.text("senders").split(",") if each.strip()]
    fields = {
        "name": form.text("name"),
        "url": form.text("url"),
        "types": form.all("type") or None,
        "senders": senders or None,
    }
    return read_fields(model, fields, context=webhooks.refusal(it.caller))


async def one(it: ConsoleRequest) -> web.Response:
    """One endpoint and its deliveries."""
    try:
        return await _page(it, await webhooks.find(it.caller, it.http.match_info["id"]))
    except UnknownWebhookError:
        it.missing()


async def _page(it: ConsoleRequest, found: Webhook, *, secret: str = "") -> web.Response:
    query = it.http.query
    status = DeliveryStatus(query["tab"]) if query.get("tab") in set(DeliveryStatus) else None
    page = await webhooks.deliveries(
        it.caller, found.id, before=it.number("before"), status=status, limit=MAX_LISTED
    )
    return it.page(
        "webhook.html",
        active="webhooks",
        one=found,
        counted=_counted(it).get(found.name),
        secret=secret,
        tab=status,
        deliveries=page.deliveries,
        more=page.next_cursor,
        tabs=list(DeliveryStatus),
        types=list(EventType),
        only_if_asked=ONLY_IF_ASKED,
        book=RUNBOOKS.get(f"webhook_{found.standing}"),
        live=not secret,
        here=f"/webhooks/{found.id}",
        an_hour_ago=(it.services.clock.now() - timedelta(hours=1)).astimezone(it.zone),
    )


async def act(it: ConsoleRequest) -> web.Response:
    """Test, change, pause, resume, replay, rotate or remove an endpoint."""
    form, which, by = await read_form(it.http), it.http.match_info["id"], it.caller
    here, said = f"/webhooks/{which}", ""
    try:
        match form.text("action"):
            case "test":
                said = _said(await webhooks.test(by, which))
            case "replay":
                said = await _replay(it, which, form)
            case "change":
                # its secret stays
                await webhooks.change(by, which, _described(it, form, WebhookChange))
                said = t("Endpoint changed.")
            case "pause":
                await webhooks.change(by, which, WebhookChange(state="paused"))
                said = t("Endpoint paused. Its events are kept until you resume it.")
            case "resume":
                await webhooks.change(by, which, WebhookChange(state="on"))
                said = t("Endpoint resumed. Missed events are being delivered.")
            case "rotate":
                seen = next(iter(form.all("until")), None)
                made = await webhooks.rotate(by, which, SecretRotation(), seen=seen)
                return await _page(it, await webhooks.find(by, which), secret=made.secret)
            case "remove":
                found = await webhooks.find(by, which)
                await webhooks.remove(by, which)
                here, said = "/webhooks", t("Endpoint {name} removed.", name=found.name)
            case _:
                await webhooks.find(by, which)
    except UnknownWebhookError:
        it.missing()
    except (WebhookError, WrongFieldError) as error:
        said = t("Nothing was changed: {why}", why=str(error))
    return it.back(here, said)


def _said(tested: TestedWebhook) -> str:
    if tested.delivered:
        return t(
            "Test event accepted: HTTP {status} after {ms:,} ms.",
            status=tested.http,
            ms=tested.took_ms,
        )
    return t(
        "Test event not accepted after {ms:,} ms: {why}", ms=tested.took_ms, why=tested.error or ""
    )


async def _replay(it: ConsoleRequest, which: str, form: Form) -> str:
    """Deliver events once more; how many."""
    try:
        since = read_local_time(form.text("since"), form.text("zone"))
    except ValueError:
        return t("Nothing was replayed. Enter a date, a time and a time zone.")
    given = EventReplay(since=since, only="failed" if form.text("only") == "failed" else "all")
    replayed = await webhooks.replay(it.caller, which, given)
    return tn("{n:,} event is being replayed.", "{n:,} events are being replayed.", replayed.events)
