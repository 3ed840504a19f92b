"""`mailerd webhooks add|list|show|pause|resume|rotate|test|replay|remove`: applications that hear of events."""

import json
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

import typer

from mailerd.cli.common import ConfigOption, configured, settings, with_database
from mailerd.cli.keys import sender_option
from mailerd.cli.output import (
    WideOption,
    as_text,
    in_utc,
    narrow,
    print_fitting,
    print_json,
    print_list,
    print_once,
    table,
)
from mailerd.clock import Clock
from mailerd.config import Settings
from mailerd.core.quantities import counted
from mailerd.core.webhooks import DeliveryStatus, EndpointState, EventType, WebhookAttempt, shown_url
from mailerd.errors import MailerdError
from mailerd.ops.outbound_http import OutboundHttp, post_test
from mailerd.store.db.database import Database
from mailerd.store.webhooks import (
    MAX_PAGE,
    NewEndpoint,
    WebhookDeliveries,
    WebhookDelivery,
    WebhookEndpoint,
    Webhooks,
    check_name,
)
from mailerd.texts import heading, label, tr

_SINCE_FORMATS: Final = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S"]

app = typer.Typer(help="Endpoints that events are posted to: add, look, test, replay, remove.", no_args_is_help=True)

WhichArgument = Annotated[str, typer.Argument(metavar="NAME|ID", help="As `mailerd webhooks list` shows it.")]
_JsonOption = Annotated[bool, typer.Option("--json", help="As JSON.")]


@app.command("add")
def add(
    name: Annotated[str, typer.Argument(help="What the endpoint is for, as lists and the log will call it.")],
    url: Annotated[str, typer.Argument(help="https://…, where events are posted to.")],
    event: Annotated[
        list[EventType] | None,
        typer.Option("--type", help="A type that it gets; may be repeated; without it, all but recipients.sent."),
    ] = None,
    sender: Annotated[
        list[str] | None, typer.Option(help="A mailbox whose events it gets; may be repeated; without it, all.")
    ] = None,
    *,
    as_json: _JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Add an endpoint, which gets the events from now on. Its secret is the last line of the output, once."""
    known = settings(config)
    if why := OutboundHttp(known.webhooks.network_rules).refusal(url) or check_name(name):
        raise MailerdError(f"{name}: {why}; `[webhooks]` of the configuration says what is allowed")
    new = NewEndpoint(name, url, types=event or None, senders=[sender_option(it) for it in sender or ()] or None)
    made, secret = _ask(known, lambda webhooks: webhooks.create(new))
    words = tr(
        f"Webhook {name!r} gets events from now on. Its secret is not shown again; the application verifies by it:"
    )
    print_once(
        as_text({**_as_json(made), "secret": secret}) if as_json else f"{words}\n{secret}",
        or_else=tr(f"the webhook {name!r} was added, but its secret was not shown: rotate it"),
    )


@app.command("list")
def list_webhooks(*, as_json: _JsonOption = False, wide: WideOption = False, config: ConfigOption = None) -> None:
    """Show every endpoint."""
    found = _ask(settings(config), lambda webhooks: webhooks.all())
    if as_json:
        print_json([_as_json(it) for it in found])
        return
    headings = ["name", "state", "since", "types", "senders", "url"]
    if narrow(wide=wide):
        print_fitting(table(headings, map(_row, found), soft={3, 4, 5}))
        return
    print_list(["id", *headings], [(it.id, *_row(it)) for it in found])


@app.command("show")
def show(
    which: WhichArgument,
    status: Annotated[DeliveryStatus | None, typer.Option(help="Deliveries in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=MAX_PAGE, help="Deliveries, the newest first.")] = 20,
    *,
    as_json: _JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Show an endpoint and its deliveries."""
    known = settings(config)

    async def work(database: Database) -> tuple[WebhookEndpoint, list[WebhookDelivery]]:
        timeout = known.database.connect_timeout
        it = await Webhooks(database, timeout=timeout).find(which)
        return it, await WebhookDeliveries(database, timeout=timeout).page(it, status=status, limit=limit)

    it, deliveries = with_database(known, work)
    if as_json:
        print_json({**_as_json(it), "deliveries": [_delivery_as_json(each) for each in deliveries]})
        return
    print(f"{it.name} ({it.id}): {shown_url(it.url)}\n{_standing(it)}")
    print_list(("event", "type", "status", "attempts", "last at", "answer"), map(_delivery_row, deliveries))


@app.command("pause")
def pause(which: WhichArgument, config: ConfigOption = None) -> None:
    """Post nothing more to an endpoint; its events are kept as long as any."""
    _with_endpoint(which, config, lambda webhooks, id_: webhooks.change(id_, {"state": EndpointState.PAUSED}))
    print(tr(f"{which} is paused."))


@app.command("resume")
def resume(which: WhichArgument, config: ConfigOption = None) -> None:
    """Post to an endpoint again, at once all that it has missed."""
    _with_endpoint(which, config, lambda webhooks, id_: webhooks.change(id_, {"state": EndpointState.ON}))
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
    secret = _with_endpoint(
        which, config, lambda webhooks, id_: webhooks.rotate(id_, overlap=timedelta(seconds=overlap))
    )
    print_once(
        tr(f"{which} has a new secret; the old one signs as well for {overlap:g} s more.\n{secret}"),
        or_else=tr(f"{which} has a new secret, which was not shown: rotate it again, which ends the old one at once"),
    )


@app.command("test")
def post_test_event(which: WhichArgument, *, as_json: _JsonOption = False, config: ConfigOption = None) -> None:
    """Post an event of the type webhook.test now, and show the answer; exit code 1 when it is no success."""
    known, file = configured(config)

    async def work(webhooks: Webhooks) -> WebhookAttempt:
        it = await webhooks.find(which)
        return await post_test(
            OutboundHttp(known.webhooks.network_rules), it.url, name=it.name,
            secrets=await webhooks.secrets(it.id), now=Clock().now(), within=known.webhooks.timeout,
        )  # fmt: skip

    attempt = _ask(known, work)
    ms = attempt.took // timedelta(milliseconds=1)
    if as_json:
        print(json.dumps({"delivered": attempt.succeeded, "http": attempt.http, "error": attempt.error, "took_ms": ms}))
    elif attempt.succeeded:
        print(tr(f"{which} answered {attempt.http} in {ms} ms."))
    else:
        print(f"{which}: {attempt.error}")
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
    known = settings(config)

    async def work(database: Database) -> int:
        timeout = known.database.connect_timeout
        it = await Webhooks(database, timeout=timeout).find(which)
        return await WebhookDeliveries(database, timeout=timeout).replay(
            it, since=since.replace(tzinfo=UTC), only_failed=failed
        )

    print(tr(f"{counted(with_database(known, work), 'event')} to be delivered to {which} once more."))


@app.command("remove")
def remove(which: WhichArgument, config: ConfigOption = None) -> None:
    """Remove an endpoint, with what waits for it."""
    _with_endpoint(which, config, lambda webhooks, id_: webhooks.remove(id_))
    print(tr(f"{which} is removed."))


def _with_endpoint[T](which: str, config: Path | None, act: Callable[[Webhooks, str], Awaitable[T]]) -> T:
    """Do something to the endpoint of this name or id."""

    async def work(webhooks: Webhooks) -> T:
        return await act(webhooks, (await webhooks.find(which)).id)

    return _ask(settings(config), work)


def _ask[T](known: Settings, work: Callable[[Webhooks], Awaitable[T]]) -> T:
    return with_database(known, lambda database: work(Webhooks(database, timeout=known.database.connect_timeout)))


def _standing(it: WebhookEndpoint) -> str:
    failing = (
        tr(f"; it has failed {it.failures} times in a row since {in_utc(it.failing_since)}") if it.failing_since else ""
    )
    cause = f" ({label(it.pause_cause)})" if it.pause_cause else ""
    return f"{label(it.state)}{cause}{failing}"


def _row(it: WebhookEndpoint) -> tuple[str, ...]:
    types = heading("all") if it.types is None else ", ".join(it.types)
    senders = heading("any") if it.senders is None else ", ".join(sorted(it.senders))
    failing = it.state is EndpointState.ON and it.failing_since
    state = label("failing" if failing else it.state)
    return it.name, state, in_utc(it.failing_since or it.created_at), types, senders, shown_url(it.url)


def _delivery_row(it: WebhookDelivery) -> tuple[str, ...]:
    said = it.error or (str(it.http) if it.http else "")
    took = tr(f" in {it.took_ms} ms") if it.took_ms is not None and not it.error else ""
    return it.event, it.type, label(it.status), str(it.attempts), in_utc(it.tried_at), f"{said}{took}"


def _as_json(it: WebhookEndpoint) -> dict[str, object]:
    return {
        "id": it.id,
        "name": it.name,
        "url": it.url,
        "types": it.types,
        "senders": None if it.senders is None else sorted(it.senders),
        "state": it.state.value,
        "pause_cause": it.pause_cause and it.pause_cause.value,
        "failures": it.failures,
        **{name: getattr(it, name) for name in ("failing_since", "retry_at", "old_until", "created_at")},
    }


def _delivery_as_json(it: WebhookDelivery) -> dict[str, object]:
    names = ("event", "type", "status", "attempts", "http", "error", "took_ms", "created_at", "tried_at", "due_at")
    return {"id": it.position, **{name: getattr(it, name) for name in names}}
