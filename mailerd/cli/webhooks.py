"""`mailerd webhooks add|list|show|pause|resume|rotate|test|replay|remove`: endpoints that receive events."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

import typer

from mailerd.cli.common import ConfigOption, asked_by, configured, settings, with_database
from mailerd.cli.keys import sender_option
from mailerd.cli.output import JsonOption, WideOption, as_text, echo, in_utc, narrow, print_json, print_once
from mailerd.cli.tables import print_fitting, print_list, table
from mailerd.clock import Clock
from mailerd.config import Settings
from mailerd.core.i18n import Text, joined, t, tn
from mailerd.core.quantities import in_words
from mailerd.core.webhooks import ONLY_IF_ASKED, DeliveryStatus, EndpointState, EventType, WebhookAttempt, shown_url
from mailerd.errors import MailerdError
from mailerd.intake.webhooks import DeliveryOut, NewWebhookOut, TestedOut, WebhookOut, WebhooksOut
from mailerd.locale import label
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

_SINCE_FORMATS: Final = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S"]

app = typer.Typer(help="Add, show, test, pause, replay and remove webhook endpoints.", no_args_is_help=True)

WhichArgument = Annotated[str, typer.Argument(metavar="NAME|ID", help="The name or ID in `mailerd webhooks list`.")]


@app.command("add")
def add(
    name: Annotated[str, typer.Argument(help="The name of the endpoint in lists and in the log.")],
    url: Annotated[str, typer.Argument(help="The URL that receives events: https://…")],
    event: Annotated[
        list[EventType] | None,
        typer.Option("--type", help="An event type to receive. Can be repeated; default: all but recipients.sent."),
    ] = None,
    sender: Annotated[
        list[str] | None, typer.Option(help="Only events of this mailbox. Can be repeated; default: all.")
    ] = None,
    *,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Add an endpoint, which receives all events from now on. Its signing secret is the last line of the output."""
    known = settings(config)
    if why := OutboundHttp(known.webhooks.network_rules).refusal(url) or check_name(name):
        raise MailerdError(t("{name}: {why}. What is allowed is set in [webhooks]", name=name, why=why))
    new = NewEndpoint(name, url, types=event or None, senders=[sender_option(it) for it in sender or ()] or None)
    made, secret = _ask(known, lambda webhooks: webhooks.create(new, actor=asked_by()))
    added = t(
        "Added webhook {name}. Save its signing secret now: it cannot be shown again, and the endpoint verifies events "
        "with it.",
        name=repr(name),
    )
    print_once(
        as_text(NewWebhookOut.of(made, secret=secret)) if as_json else joined([added, secret], "\n"),
        or_else=t("webhook {name} was added, but its signing secret could not be shown: rotate it", name=repr(name)),
    )


@app.command("list")
def list_webhooks(*, as_json: JsonOption = False, wide: WideOption = False, config: ConfigOption = None) -> None:
    """List all endpoints."""
    found = _ask(settings(config), lambda webhooks: webhooks.all())
    if as_json:
        print_json(WebhooksOut(webhooks=[WebhookOut.of(it) for it in found]))
        return
    headings = [t("Name"), t("State"), t("Since"), t("Types"), t("Senders"), "URL"]
    if narrow(wide=wide):
        print_fitting(table(headings, map(_row, found), soft={3, 4, 5}))
        return
    print_list([t("ID"), *headings], [(it.id, *_row(it)) for it in found])


@app.command("show")
def show(
    which: WhichArgument,
    status: Annotated[DeliveryStatus | None, typer.Option(help="Only deliveries with this status.")] = None,
    limit: Annotated[
        int, typer.Option(min=1, max=MAX_PAGE, help="Show at most this many deliveries, newest first.")
    ] = 20,
    *,
    as_json: JsonOption = False,
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
        shown = [DeliveryOut.of(each).model_dump(mode="json") for each in deliveries]
        print_json({**WebhookOut.of(it).model_dump(mode="json"), "deliveries": shown})
        return
    echo(f"{it.name} ({it.id}): {shown_url(it.url)}")
    echo(_standing(it))
    headings = (t("Event"), t("Type"), t("Status"), t("Attempts"), t("Last attempt"), t("Response"))
    print_list(headings, map(_delivery_row, deliveries))


@app.command("pause")
def pause(which: WhichArgument, config: ConfigOption = None) -> None:
    """Pause an endpoint. Its events are kept for as long as all others."""
    _with_endpoint(
        which, config, lambda webhooks, id_: webhooks.change(id_, {"state": EndpointState.PAUSED}, actor=asked_by())
    )
    echo(t("webhook {name} paused", name=which))


@app.command("resume")
def resume(which: WhichArgument, config: ConfigOption = None) -> None:
    """Resume an endpoint. Events that it missed are delivered at once."""
    _with_endpoint(
        which, config, lambda webhooks, id_: webhooks.change(id_, {"state": EndpointState.ON}, actor=asked_by())
    )
    echo(t("webhook {name} resumed", name=which))


@app.command("rotate")
def rotate(
    which: WhichArgument,
    overlap: Annotated[
        float, typer.Option(min=0, max=30 * 86_400, help="Seconds for which events are signed with the old secret too.")
    ] = 86_400,
    config: ConfigOption = None,
) -> None:
    """Replace the signing secret of an endpoint, and print the new one. For a while, events are signed with both."""
    secret = _with_endpoint(
        which, config, lambda webhooks, id_: webhooks.rotate(id_, overlap=timedelta(seconds=overlap), actor=asked_by())
    )
    print_once(
        joined(
            [
                t(
                    "Replaced the signing secret of webhook {name}. Events are signed with both for {overlap}.",
                    name=which, overlap=in_words(overlap),
                ),
                secret,
            ],
            "\n",
        ),
        or_else=t(
            "the signing secret of webhook {name} was replaced, but the new one could not be shown: rotate it again, "
            "which ends the old one at once",
            name=which,
        ),
    )  # fmt: skip


@app.command("test")
def post_test_event(which: WhichArgument, *, as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Post an event of the type webhook.test now, and show the response. The exit code is 1 if it was rejected."""
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
        said = {"delivered": attempt.succeeded, "http": attempt.http, "error": attempt.error, "took_ms": ms}
        print_json(TestedOut.model_validate(said))
    elif attempt.succeeded:
        echo(t("webhook {name} returned {status} in {ms} ms", name=which, status=attempt.http, ms=ms))
    else:
        echo(t("webhook {name}: {error}", name=which, error=attempt.error or ""))
        where = str(file)  # the daemon may have another one, or an older state of it
        echo(
            t("This command posted the event itself. A running daemon may have other settings; {where}.", where=where),
            err=True,
        )
    if not attempt.succeeded:
        raise typer.Exit(1)


@app.command("replay")
def replay(
    which: WhichArgument,
    since: Annotated[datetime, typer.Option(formats=_SINCE_FORMATS, help="Events since this time, in UTC.")],
    *,
    failed: Annotated[bool, typer.Option("--failed", help="Only deliveries that failed permanently.")] = False,
    config: ConfigOption = None,
) -> None:
    """Deliver events again, with their old IDs. The daemon delivers them."""
    known = settings(config)

    async def work(database: Database) -> int:
        timeout = known.database.connect_timeout
        it = await Webhooks(database, timeout=timeout).find(which)
        return await WebhookDeliveries(database, timeout=timeout).replay(
            it, since=since.replace(tzinfo=UTC), actor=asked_by(), only_failed=failed
        )

    queued = with_database(known, work)
    echo(tn("{n:,} event queued for webhook {name}", "{n:,} events queued for webhook {name}", queued, name=which))


@app.command("remove")
def remove(which: WhichArgument, config: ConfigOption = None) -> None:
    """Remove an endpoint and its waiting deliveries."""
    _with_endpoint(which, config, lambda webhooks, id_: webhooks.remove(id_, actor=asked_by()))
    echo(t("webhook {name} removed", name=which))


def _with_endpoint[T](which: str, config: Path | None, act: Callable[[Webhooks, str], Awaitable[T]]) -> T:
    """Do something to the endpoint of this name or id."""

    async def work(webhooks: Webhooks) -> T:
        return await act(webhooks, (await webhooks.find(which)).id)

    return _ask(settings(config), work)


def _ask[T](known: Settings, work: Callable[[Webhooks], Awaitable[T]]) -> T:
    return with_database(known, lambda database: work(Webhooks(database, timeout=known.database.connect_timeout)))


def _standing(it: WebhookEndpoint) -> Text:
    state = label(it.state)
    parts = [t("{state} ({cause})", state=state, cause=label(it.pause_cause)) if it.pause_cause else state]
    if it.failing_since:
        parts.append(
            tn(
                "{n:,} failure since {at}", "{n:,} failures in a row since {at}",
                it.failures, at=in_utc(it.failing_since),
            )
        )  # fmt: skip
    return joined(parts)


def _row(it: WebhookEndpoint) -> tuple[str, ...]:
    types = t("all but {types}", types=", ".join(sorted(ONLY_IF_ASKED))) if it.types is None else ", ".join(it.types)
    senders = t("any") if it.senders is None else ", ".join(sorted(it.senders))
    failing = it.state is EndpointState.ON and it.failing_since
    state = label("failing" if failing else it.state)
    return it.name, state, in_utc(it.failing_since or it.created_at), types, senders, shown_url(it.url)


def _delivery_row(it: WebhookDelivery) -> tuple[str, ...]:
    said = it.error or str(it.http or "")
    if it.took_ms is not None and not it.error:
        said = t("{status} in {ms} ms", status=said, ms=it.took_ms)
    return it.event, it.type, label(it.status), str(it.attempts), in_utc(it.tried_at), said
