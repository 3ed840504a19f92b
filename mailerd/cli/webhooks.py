"""`mailerd webhooks add|list|show|pause|resume|rotate|test|replay|remove`: applications that hear of events."""

import json
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.table import Table

from mailerd.cli.common import (
    ONE_LINE,
    ConfigOption,
    WideOption,
    configured,
    console,
    narrow,
    open_database,
    run_async,
    settings,
    warnings_only,
)
from mailerd.cli.stdio import OutputError
from mailerd.cli.top_view import table
from mailerd.clock import SystemClock, new_id
from mailerd.config import Settings
from mailerd.core.event_types import EventType
from mailerd.core.webhook_retries import DeliveryStatus, EndpointState, WebhookAttempt, shown_url
from mailerd.errors import MailerdError
from mailerd.mail.addresses import mailbox
from mailerd.ops.outbound_http import OutboundHttp
from mailerd.ops.webhook_request import post_test
from mailerd.store.db.database import Database
from mailerd.store.webhook_deliveries import MAX_PAGE, WebhookDeliveries, WebhookDelivery
from mailerd.store.webhooks import NewEndpoint, WebhookEndpoint, Webhooks, check_name
from mailerd.texts import heading, label, tr

_SINCE_FORMATS: Final = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S"]

app = typer.Typer(help="Endpoints that events are posted to: add, look, test, replay, remove.", no_args_is_help=True)

WhichArgument = Annotated[str, typer.Argument(metavar="NAME|ID", help="As `mailerd webhooks list` shows it.")]
JsonOption = Annotated[bool, typer.Option("--json", help="As JSON.")]


@app.command("add")
def add(
    name: Annotated[str, typer.Argument(help="What the endpoint is for, as lists and the log will call it.")],
    url: Annotated[str, typer.Argument(help="https://…, where events are posted to.")],
    event: Annotated[
        list[EventType] | None, typer.Option("--type", help="A type that it gets; may be repeated; without it, all.")
    ] = None,
    sender: Annotated[
        list[str] | None, typer.Option(help="A mailbox whose events it gets; may be repeated; without it, all.")
    ] = None,
    *,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Add an endpoint, which gets the events from now on. Its secret is the last line of the output, once."""
    known = settings(config)
    if why := OutboundHttp(known.webhooks.network_rules).refusal(url) or check_name(name):
        raise MailerdError(f"{name}: {why}; `[webhooks]` of the configuration says what is allowed")
    new = NewEndpoint(name, url, types=event or None, senders=[_mailbox(it) for it in sender or ()] or None)
    made, secret = _ask(known, lambda webhooks: webhooks.create(new))
    told = json.dumps({**_as_json(made), "secret": secret}, ensure_ascii=False, indent=2)
    words = tr(
        f"Webhook {name!r} gets events from now on. Its secret is not shown again; the application verifies by it:"
    )
    _show(
        told if as_json else f"{words}\n{secret}",
        or_else=tr(f"the webhook {name!r} was added, but its secret was not shown: rotate it"),
    )


@app.command("list")
def list_webhooks(*, as_json: JsonOption = False, wide: WideOption = False, config: ConfigOption = None) -> None:
    """Show every endpoint."""
    found = _ask(settings(config), lambda webhooks: webhooks.all())
    if as_json:
        print(json.dumps([_as_json(it) for it in found], ensure_ascii=False, indent=2))
        return
    headings = ["name", "state", "since", "types", "senders", "url"]
    if narrow(wide=wide):
        console().print(table(headings, [_row(it) for it in found], soft=frozenset({3, 4, 5})))
        return
    wide_table = Table("id", *map(heading, headings), box=None)
    for it in found:
        wide_table.add_row(it.id, *_row(it))
    console(ONE_LINE).print(wide_table)


@app.command("show")
def show(
    which: WhichArgument,
    status: Annotated[DeliveryStatus | None, typer.Option(help="Deliveries in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=MAX_PAGE, help="Deliveries, the newest first.")] = 20,
    *,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Show an endpoint and its deliveries."""

    async def work(database: Database, timeout: float) -> tuple[WebhookEndpoint, list[WebhookDelivery]]:  # noqa: ASYNC109 - the database's
        it = await Webhooks(database, timeout=timeout).find(which)
        return it, await WebhookDeliveries(database, timeout=timeout).page(it.id, status=status, limit=limit)

    it, deliveries = _with_database(settings(config), work)
    if as_json:
        told = {**_as_json(it), "deliveries": [_delivery_as_json(each) for each in deliveries]}
        print(json.dumps(told, ensure_ascii=False, indent=2))
        return
    print(f"{it.name} ({it.id}): {shown_url(it.url)}\n{_standing(it)}")
    shown = Table(*map(heading, ("event", "type", "status", "attempts", "last at", "answer")), box=None)
    for each in deliveries:
        said = each.error or (str(each.http) if each.http else "")
        took = tr(f" in {each.took_ms} ms") if each.took_ms is not None and not each.error else ""
        shown.add_row(
            each.event, each.type, label(each.status), str(each.attempts), _at(each.tried_at), f"{said}{took}"
        )
    console(ONE_LINE).print(shown)


@app.command("pause")
def pause(which: WhichArgument, config: ConfigOption = None) -> None:
    """Post nothing more to an endpoint; its events are kept as long as any."""
    _switch(which, EndpointState.PAUSED, config)
    print(tr(f"{which} is paused."))


@app.command("resume")
def resume(which: WhichArgument, config: ConfigOption = None) -> None:
    """Post to an endpoint again, at once all that it has missed."""
    _switch(which, EndpointState.ON, config)
    print(tr(f"{which} gets events again."))


@app.command("rotate")
def rotate(
    which: WhichArgument,
    overlap: Annotated[
        float, typer.Option(min=0, max=30 * 86_400, help="Seconds for which the old secret signs as well.")
    ] = 86_400,
    config: ConfigOption = None,
) -> None:
    """Give an endpoint a new secret, the last line of the output; the old one signs as well for a while."""

    async def work(webhooks: Webhooks) -> str:
        return await webhooks.rotate((await webhooks.find(which)).id, overlap=timedelta(seconds=overlap))

    secret = _ask(settings(config), work)
    _show(
        tr(f"{which} has a new secret; the old one signs as well for {overlap:g} s more.\n{secret}"),
        or_else=tr(f"{which} has a new secret, which was not shown: rotate it again"),
    )


@app.command("test")
def post_test_event(which: WhichArgument, *, as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Post an event of the type webhook.test now, and show the answer; exit code 1 when it is no success."""
    known, file = configured(config)

    async def work(webhooks: Webhooks) -> WebhookAttempt:
        it = await webhooks.find(which)
        return await post_test(
            OutboundHttp(known.webhooks.network_rules), it.url, uid=f"evt_{new_id()}", name=it.name,
            secrets=await webhooks.secrets(it.id), now=SystemClock().now(), within=known.webhooks.timeout,
        )  # fmt: skip

    attempt = _ask(known, work)
    ms = attempt.took // timedelta(milliseconds=1)
    if as_json:
        print(json.dumps({"delivered": attempt.succeeded, "http": attempt.http, "error": attempt.error, "took_ms": ms}))
    else:
        print(tr(f"{which} answered {attempt.http} in {ms} ms.") if attempt.succeeded else f"{which}: {attempt.error}")
    if not attempt.succeeded and not as_json:
        where = tr(str(file))  # the daemon may have another one, or an older state of it
        print(
            tr(f"This command posts itself; a running daemon goes by the settings it began with. {where}"),
            file=sys.stderr,
        )
    if not attempt.succeeded:
        raise typer.Exit(1)


@app.command("replay")
def replay(
    which: WhichArgument,
    since: Annotated[datetime, typer.Option(formats=_SINCE_FORMATS, help="The events since then, in UTC.")],
    *,
    failed: Annotated[bool, typer.Option("--failed", help="Only those that were given up.")] = False,
    config: ConfigOption = None,
) -> None:
    """Deliver events once more, with their old ids; the daemon does it."""

    async def work(database: Database, timeout: float) -> int:  # noqa: ASYNC109 - the database's
        it = await Webhooks(database, timeout=timeout).find(which)
        return await WebhookDeliveries(database, timeout=timeout).replay(
            it, since=since.replace(tzinfo=UTC), only_failed=failed
        )

    print(tr(f"{_with_database(settings(config), work):,} events are delivered to {which} once more."))


@app.command("remove")
def remove(which: WhichArgument, config: ConfigOption = None) -> None:
    """Remove an endpoint, with what waits for it."""

    async def work(webhooks: Webhooks) -> None:
        await webhooks.remove((await webhooks.find(which)).id)

    _ask(settings(config), work)
    print(tr(f"{which} is removed."))


def _switch(which: str, state: EndpointState, config: Path | None) -> None:
    async def work(webhooks: Webhooks) -> None:
        await webhooks.change((await webhooks.find(which)).id, {"state": state})

    _ask(settings(config), work)


def _ask[T](known: Settings, work: Callable[[Webhooks], Awaitable[T]]) -> T:
    return _with_database(known, lambda database, timeout: work(Webhooks(database, timeout=timeout)))


def _with_database[T](known: Settings, work: Callable[[Database, float], Awaitable[T]]) -> T:
    async def ask() -> T:
        async with open_database(known, warnings_only(known).write) as database:
            return await work(database, known.database.connect_timeout)

    return run_async(ask())


def _show(words: str, *, or_else: str) -> None:
    """Say what cannot be said again; what to do where that fails."""
    try:
        print(words, flush=True)
    except (OutputError, BrokenPipeError) as error:
        raise MailerdError(f"{or_else} ({error})") from error


def _mailbox(given: str) -> str:
    try:
        return mailbox(given)
    except ValueError as error:
        raise MailerdError(f"--sender {given}: {error}") from None


def _standing(it: WebhookEndpoint) -> str:
    failing = (
        tr(f"; it has failed {it.failures} times in a row since {_at(it.failing_since)}") if it.failing_since else ""
    )
    cause = f" ({label(it.pause_cause)})" if it.pause_cause else ""
    return f"{label(it.state)}{cause}{failing}"


def _row(it: WebhookEndpoint) -> tuple[str, ...]:
    types = heading("all") if it.types is None else ", ".join(it.types)
    senders = heading("any") if it.senders is None else ", ".join(sorted(it.senders))
    failing = it.state is EndpointState.ON and it.failing_since
    state = label("failing" if failing else it.state)
    return it.name, state, _at(it.failing_since or it.created_at), types, senders, shown_url(it.url)


def _as_json(it: WebhookEndpoint) -> dict[str, object]:
    moments = ("failing_since", "retry_at", "old_until", "created_at")
    return {
        "id": it.id,
        "name": it.name,
        "url": it.url,
        "types": it.types,
        "senders": None if it.senders is None else sorted(it.senders),
        "state": it.state.value,
        "pause_cause": it.pause_cause and it.pause_cause.value,
        "failures": it.failures,
        **{name: getattr(it, name) and getattr(it, name).isoformat() for name in moments},
    }


def _delivery_as_json(it: WebhookDelivery) -> dict[str, object]:
    moments = ("created_at", "tried_at", "due_at")
    plain = ("event", "type", "status", "attempts", "http", "error", "took_ms")
    return {
        "id": it.position,
        **{name: getattr(it, name) for name in plain},
        **{name: getattr(it, name) and getattr(it, name).isoformat() for name in moments},
    }


def _at(moment: datetime | None) -> str:
    return "" if moment is None else moment.strftime("%Y-%m-%d %H:%M:%SZ")
