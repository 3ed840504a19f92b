"""Webhooks: the endpoints that events are posted to, and the result of each delivery; tests, pauses, replays, secrets.

Everything is done by the store's functions, as the API does it, and with the same rights.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from aiohttp import web

from mailerd.clock import ULID
from mailerd.core.i18n import t, tn
from mailerd.core.stats import WebhookStats
from mailerd.core.webhooks import ONLY_IF_ASKED, DeliveryStatus, EndpointState, EventType
from mailerd.events.runbook import RUNBOOKS
from mailerd.http.auth import events_of
from mailerd.ops.outbound_http import OutboundHttp, post_test
from mailerd.store.api_keys import Permission
from mailerd.store.webhooks import (
    MAX_SENDERS,
    NewEndpoint,
    UnknownWebhookError,
    WebhookDeliveries,
    WebhookEndpoint,
    WebhookError,
    Webhooks,
    check_name,
    check_url,
)
from mailerd.web.forms import Form, WrongFieldError, mailboxes, read_form, read_local_time
from mailerd.web.services import MAX_LISTED, TIMEOUT, ConsoleRequest, split_page

OVERLAP: Final = timedelta(days=1)
"""For how long the secret before a rotation signs too."""


def _webhooks(it: ConsoleRequest) -> Webhooks:
    return Webhooks(it.services.database, timeout=TIMEOUT)


def _deliveries(it: ConsoleRequest) -> WebhookDeliveries:
    return WebhookDeliveries(it.services.database, timeout=TIMEOUT)


def _counted(it: ConsoleRequest) -> Mapping[str, WebhookStats]:
    """What waits for each endpoint, as the daemon has counted it seconds ago; by name."""
    stats = it.services.stats()
    return {each.name: each for each in stats.webhooks} if stats else {}


async def show(it: ConsoleRequest) -> web.Response:
    """Every endpoint that the key may see."""
    it.require(Permission.WEBHOOKS)
    return it.page(
        "webhooks.html", active="webhooks", endpoints=await _webhooks(it).all(senders=it.key.senders),
        counted=_counted(it), types=list(EventType), only_if_asked=ONLY_IF_ASKED, live=True,
    )  # fmt: skip


async def add(it: ConsoleRequest) -> web.Response:
    """Make an endpoint; the page that follows shows its secret, once."""
    it.require(Permission.WEBHOOKS)
    form = await read_form(it.http)
    try:
        made, secret = await _webhooks(it).create(_described(it, form), actor=it.actor)
    except (WebhookError, WrongFieldError) as error:
        return it.back("/webhooks", str(error))
    _log_change(it, made, "made")
    return await _page(it, made, secret=secret)


def _described(it: ConsoleRequest, form: Form) -> NewEndpoint:
    """What a form describes.

    Raises:
        WrongFieldError: what is wrong with it.
        ApiError: 403, the key may not hear of one of the senders.
    """
    types = [EventType(each) for each in form.all("type") if each in set(EventType)]
    name, url = form.text("name"), form.text("url")
    if why := check_name(name) or check_url(url):
        raise WrongFieldError(why)
    if why := OutboundHttp(it.services.settings.webhooks.network_rules).refusal(url):
        text = t("The URL may not be requested: {why}. Allowed addresses are configured in [webhooks].", why=why)
        raise WrongFieldError(text)
    if len(senders := mailboxes(form.text("senders"))) > MAX_SENDERS:
        raise WrongFieldError(t("Enter at most {most} senders.", most=MAX_SENDERS))
    return NewEndpoint(name, url, types or None, events_of(it.key, senders or None), it.key.id)


async def _find(it: ConsoleRequest) -> WebhookEndpoint:
    """The endpoint of the path.

    Raises:
        ApiError: 404, there is none that the key may see: another tenant's endpoint is as good as none.
    """
    it.require(Permission.WEBHOOKS)
    id_ = it.http.match_info["id"]
    if not ULID.fullmatch(id_):  # a name finds it too, but not here
        it.missing()
    try:
        return await _webhooks(it).find(id_, senders=it.key.senders)
    except UnknownWebhookError:
        it.missing()


async def one(it: ConsoleRequest) -> web.Response:
    """One endpoint and its deliveries."""
    return await _page(it, await _find(it))


async def _page(it: ConsoleRequest, found: WebhookEndpoint, *, secret: str = "") -> web.Response:
    query = it.http.query
    status = DeliveryStatus(query["tab"]) if query.get("tab") in set(DeliveryStatus) else None
    deliveries, last = split_page(
        await _deliveries(it).page(found, before=it.number("before"), status=status, limit=MAX_LISTED + 1)
    )
    return it.page(
        "webhook.html", active="webhooks", one=found, counted=_counted(it).get(found.name), secret=secret, tab=status,
        deliveries=deliveries, more=last and last.position, tabs=list(DeliveryStatus), types=list(EventType),
        only_if_asked=ONLY_IF_ASKED, book=RUNBOOKS.get(f"webhook_{found.standing}"), live=not secret,
        here=f"/webhooks/{found.id}",
        an_hour_ago=(it.services.clock.now() - timedelta(hours=1)).astimezone(it.zone),
    )  # fmt: skip


async def act(it: ConsoleRequest) -> web.Response:
    """Test, change, pause, resume, replay, rotate or remove an endpoint."""
    found = await _find(it)
    form = await read_form(it.http)
    here, webhooks, said = f"/webhooks/{found.id}", _webhooks(it), ""
    try:
        match form.text("action"):
            case "test":
                said = await _test(it, found)
            case "replay":
                said = await _replay(it, found, form)
            case "change":
                new = _described(it, form)
                given = {"name": new.name, "url": new.url, "types": new.types, "senders": new.senders}
                await webhooks.change(found.id, given, actor=it.actor)  # its secret stays
                _log_change(it, found, "changed")
                said = t("Endpoint changed.")
            case "pause":
                await webhooks.change(found.id, {"state": EndpointState.PAUSED}, actor=it.actor)
                _log_change(it, found, "paused")
                said = t("Endpoint paused. Its events are kept until you resume it.")
            case "resume":
                await webhooks.change(found.id, {"state": EndpointState.ON}, actor=it.actor)
                _log_change(it, found, "resumed")
                said = t("Endpoint resumed. Missed events are being delivered.")
            case "rotate" if form.all("until") not in ([], [str(found.old_until)]):  # that page is older
                said = t("Nothing was changed: the secret was rotated in the meantime.")
            case "rotate":
                secret = await webhooks.rotate(found.id, overlap=OVERLAP, actor=it.actor, seen=found)
                _log_change(it, found, "rotated")
                return await _page(it, await webhooks.find(found.id), secret=secret)
            case "remove":
                await webhooks.remove(found.id, actor=it.actor)
                _log_change(it, found, "removed")
                here, said = "/webhooks", t("Endpoint {name} removed.", name=found.name)
            case _:
                pass
    except (WebhookError, WrongFieldError) as error:
        said = t("Nothing was changed: {why}", why=str(error))
    return it.back(here, said)


async def _test(it: ConsoleRequest, found: WebhookEndpoint) -> str:
    """Post a test event now; what came of it."""
    settings = it.services.settings.webhooks
    async with it.services.shares.webhook_calls.place(it.key):
        attempt = await post_test(
            OutboundHttp(settings.network_rules), found.url, name=found.name,
            secrets=await _webhooks(it).secrets(found.id), now=it.services.clock.now(), within=settings.timeout,
        )  # fmt: skip
    ms = attempt.took // timedelta(milliseconds=1)
    if attempt.succeeded:
        return t("Test event accepted: HTTP {status} after {ms:,} ms.", status=attempt.http, ms=ms)
    return t("Test event not accepted after {ms:,} ms: {why}", ms=ms, why=attempt.error or "")


async def _replay(it: ConsoleRequest, found: WebhookEndpoint, form: Form) -> str:
    """Deliver events once more; how many."""
    try:
        since = read_local_time(form.text("since"), form.text("zone"))
    except ValueError:
        return t("Nothing was replayed. Enter a date, a time and a time zone.")
    async with it.services.shares.webhook_calls.place(it.key):
        events = await _deliveries(it).replay(
            found, since=since, actor=it.actor, only_failed=form.text("only") == "failed"
        )
    replayed = tn("{n:,} event replayed from {since}", "{n:,} events replayed from {since}", events,
                  since=f"{since:%Y-%m-%dT%H:%MZ}")  # fmt: skip
    _log_change(it, found, replayed)
    return tn("{n:,} event is being replayed.", "{n:,} events are being replayed.", events)


def _log_change(it: ConsoleRequest, found: WebhookEndpoint, change: str) -> None:
    it.log_change(t("webhook {webhook}", webhook=found.name), change)
