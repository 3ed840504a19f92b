"""`mailerd webhooks add|list|show|pause|resume|rotate|test|replay|remove`: endpoints that receive
events.
"""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from mailerd.cli.ask import with_caller
from mailerd.cli.common import ConfigOption, configured, settings
from mailerd.cli.output import (
    JsonOption,
    WideOption,
    as_text,
    echo,
    in_utc,
    narrow,
    print_json,
    print_once,
)
from mailerd.cli.tables import print_fitting, print_list, table
from mailerd.core.i18n import Text, joined, t, tn
from mailerd.core.quantities import in_words
from mailerd.core.webhooks import ONLY_IF_ASKED, DeliveryStatus, EndpointState, EventType, shown_url
from mailerd.locale import label
from mailerd.model.webhooks import DeliveryPage, NewWebhook, Webhook, WebhookDelivery
from mailerd.operations import webhooks
from mailerd.operations.caller import Caller
from mailerd.operations.inputs import read_fields
from mailerd.operations.webhooks import EventReplay, SecretRotation, WebhookChange, WebhookRequest
from mailerd.store.write.webhooks import MAX_PAGE

_SINCE_FORMATS: Final = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S"]

app = typer.Typer(
    help="Add, show, test, pause, replay and remove webhook endpoints.", no_args_is_help=True
)

WhichArgument = Annotated[
    str, typer.Argument(metavar="NAME|ID", help="The name or ID in `mailerd webhooks list`.")
]


@app.command("add")
def add(
    name: Annotated[str, typer.Argument(help="The name of the endpoint in lists and in the log.")],
    url: Annotated[str, typer.Argument(help="The URL that receives events: https://…")],
    event: Annotated[
        list[EventType] | None,
        typer.Option(
            "--type",
            help="An event type to receive. Can be repeated; default: all but recipients.sent.",
        ),
    ] = None,
    sender: Annotated[
        list[str] | None,
        typer.Option(help="Only events of this mailbox. Can be repeated; default: all."),
    ] = None,
    *,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Add an endpoint, which receives all events from now on. Its signing secret is the last line of the output."""
    fields = {"name": name, "url": url, "types": event or None, "senders": sender or None}

    async def work(by: Caller) -> NewWebhook:
        return await webhooks.create(
            by, read_fields(WebhookRequest, fields, context=webhooks.refusal(by))
        )

    made = _ask(config, work)
    added = t(
        "Added webhook {name}. Save its signing secret now: it cannot be shown again, and the endpoint verifies events "
        "with it.",
        name=repr(name),
    )
    print_once(
        as_text(made) if as_json else joined([added, made.secret], "\n"),
        or_else=t(
            "webhook {name} was added, but its signing secret could not be shown: rotate it",
            name=repr(name),
        ),
    )


@app.command("list")
def list_webhooks(
    *, as_json: JsonOption = False, wide: WideOption = False, config: ConfigOption = None
) -> None:
    """List all endpoints."""
    found = _ask(config, webhooks.index)
    if as_json:
        print_json(found)
        return
    headings = [t("Name"), t("State"), t("Since"), t("Types"), t("Senders"), "URL"]
    if narrow(wide=wide):
        print_fitting(table(headings, map(_row, found.webhooks), soft={3, 4, 5}))
        return
    print_list([t("ID"), *headings], [(it.id, *_row(it)) for it in found.webhooks])


@app.command("show")
def show(
    which: WhichArgument,
    status: Annotated[
        DeliveryStatus | None, typer.Option(help="Only deliveries with this status.")
    ] = None,
    limit: Annotated[
        int,
        typer.Option(min=1, max=MAX_PAGE, help="Show at most this many deliveries, newest first."),
    ] = 20,
    *,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Show an endpoint and its deliveries."""

    async def work(by: Caller) -> tuple[Webhook, DeliveryPage]:
        it = await webhooks.find(by, which)
        return it, await webhooks.deliveries(by, it.id, status=status, limit=limit)

    it, page = _ask(config, work)
    if as_json:
        print_json(
            {**it.model_dump(mode="json"), "deliveries": page.model_dump(mode="json")["deliveries"]}
        )
        return
    echo(f"{it.name} ({it.id}): {shown_url(it.url)}")
    echo(_standing(it))
    headings = (t("Event"), t("Type"), t("Status"), t("Attempts"), t("Last attempt"), t("Response"))
    print_list(headings, map(_delivery_row, page.deliveries))


@app.command("pause")
def pause(which: WhichArgument, config: ConfigOption = None) -> None:
    """Pause an endpoint. Its events are kept for as long as all others."""
    _ask(config, lambda by: webhooks.change(by, which, WebhookChange(state="paused")))
    echo(t("webhook {name} paused", name=which))


@app.command("resume")
def resume(which: WhichArgument, config: ConfigOption = None) -> None:
    """Resume an endpoint. Events that it missed are delivered at once."""
    _ask(config, lambda by: webhooks.change(by, which, WebhookChange(state="on")))
    echo(t("webhook {name} resumed", name=which))


@app.command("rotate")
def rotate(
    which: WhichArgument,
    overlap: Annotated[
        int,
        typer.Option(
            min=0,
            max=webhooks.MAX_OVERLAP,
            help="Seconds for which the old secret signs events, too.",
        ),
    ] = 86_400,
    config: ConfigOption = None,
) -> None:
    """Replace the signing secret of an endpoint, and print the new one. For a while, events are signed with both."""
    rotated = _ask(config, lambda by: webhooks.rotate(by, which, SecretRotation(overlap=overlap)))
    print_once(
        joined(
            [
                t(
                    "Replaced the signing secret of webhook {name}. Events are signed with both for {overlap}.",
                    name=which,
                    overlap=in_words(overlap),
                ),
                rotated.secret,
            ],
            "\n",
        ),
        or_else=t(
            "the signing secret of webhook {name} was replaced, but the new one could not be shown: rotate it again, "
            "which ends the old one at once",
            name=which,
        ),
    )


@app.command("test")
def post_test_event(
    which: WhichArgument, *, as_json: JsonOption = False, config: ConfigOption = None
) -> None:
    """Post an event of the type webhook.test now, and show the response. The exit code is 1 if it was rejected."""
    _, file = configured(config)
    tested = _ask(config, lambda by: webhooks.test(by, which))
    if as_json:
        print_json(tested)
    elif tested.delivered:
        echo(
            t(
                "webhook {name} returned {status} in {ms} ms",
                name=which,
                status=tested.http,
                ms=tested.took_ms,
            )
        )
    else:
        echo(t("webhook {name}: {error}", name=which, error=tested.error or ""))
        where = str(file)  # the daemon may have another one, or an older state of it
        echo(
            t(
                "This command posted the event itself. A running daemon may have other settings; {where}.",
                where=where,
            ),
            err=True,
        )
    if not tested.delivered:
        raise typer.Exit(1)


@app.command("replay")
def replay(
    which: WhichArgument,
    since: Annotated[
        datetime, typer.Option(formats=_SINCE_FORMATS, help="Events since this time, in UTC.")
    ],
    *,
    failed: Annotated[
        bool, typer.Option("--failed", help="Only deliveries that failed permanently.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Deliver events again, with their old IDs. The daemon delivers them."""
    given = EventReplay(since=since.replace(tzinfo=UTC), only="failed" if failed else "all")
    queued = _ask(config, lambda by: webhooks.replay(by, which, given)).events
    echo(
        tn(
            "{n:,} event queued for webhook {name}",
            "{n:,} events queued for webhook {name}",
            queued,
            name=which,
        )
    )


@app.command("remove")
def remove(which: WhichArgument, config: ConfigOption = None) -> None:
    """Remove an endpoint and its waiting deliveries."""
    _ask(config, lambda by: webhooks.remove(by, which))
    echo(t("webhook {name} removed", name=which))


def _ask[T](config: Path | None, work: Callable[[Caller], Awaitable[T]]) -> T:
    return with_caller(settings(config), work)


def _standing(it: Webhook) -> Text:
    state = label(it.state)
    parts = [
        t("{state} ({cause})", state=state, cause=label(it.pause_cause))
        if it.pause_cause
        else state
    ]
    if it.failing_since:
        parts.append(
            tn(
                "{n:,} failure since {at}",
                "{n:,} failures in a row since {at}",
                it.failures,
                at=in_utc(it.failing_since),
            )
        )
    return joined(parts)


def _row(it: Webhook) -> tuple[str, ...]:
    types = (
        t("all but {types}", types=", ".join(sorted(ONLY_IF_ASKED)))
        if it.types is None
        else ", ".join(it.types)
    )
    senders = t("any") if it.senders is None else ", ".join(sorted(it.senders))
    failing = it.state is EndpointState.ON and it.failing_since
    state = label("failing" if failing else it.state)
    return (
        it.name,
        state,
        in_utc(it.failing_since or it.created_at),
        types,
        senders,
        shown_url(it.url),
    )


def _delivery_row(it: WebhookDelivery) -> tuple[str, ...]:
    said = it.error or str(it.http or "")
    if it.took_ms is not None and not it.error:
        said = t("{status} in {ms} ms", status=said, ms=it.took_ms)
    return it.event, it.type, label(it.status), str(it.attempts), in_utc(it.tried_at), said
