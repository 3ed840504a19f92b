"""`mailerd keys create|rotate|list|revoke`: who may post jobs."""

import shlex
from collections.abc import Awaitable, Callable
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from mailerd.cli.ask import with_caller
from mailerd.cli.common import ConfigOption, settings
from mailerd.cli.output import JsonOption, WideOption, echo, in_utc, narrow, print_json, print_once
from mailerd.cli.tables import print_fitting, print_list, table
from mailerd.core.i18n import joined, t
from mailerd.core.quantities import in_words
from mailerd.errors import MailerdError
from mailerd.mail.mime import mailbox
from mailerd.operations import keys
from mailerd.operations.caller import Caller
from mailerd.store.write.api_keys import ApiKey, Permission, choice

ALL: Final = "all"
"""What an option calls every mailbox, or every permission."""
Call = StrEnum("Call", [*Permission, ALL])  # type: ignore[misc]  # mypy wants a literal
"""What --call takes."""

app = typer.Typer(help="Create, rotate, list and revoke API keys.", no_args_is_help=True)


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="The name of the key in lists and in the log.")],
    sender: Annotated[
        list[str] | None,
        typer.Option(
            help="A mailbox that the key may send from, or `all`. Can be repeated; default: all."
        ),
    ] = None,
    call: Annotated[
        list[Call] | None,
        typer.Option(help="A permission of the key, or `all`. Can be repeated; default: all."),
    ] = None,
    per_minute: Annotated[
        int | None,
        typer.Option(
            min=1, max=1_000_000, help="Requests per minute to each daemon; more get a 429."
        ),
    ] = None,
    *,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print the key only, for scripts.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Create a key. It is the last line of the output, and cannot be shown again."""
    named, called = sender or [ALL], call or [Call(ALL)]
    senders = choice([sender_option(each) for each in named if each != ALL], is_all=ALL in named)
    permissions = choice([Permission(each) for each in called if each != ALL], is_all=ALL in called)
    secret = _ask(
        config,
        lambda by: keys.create(
            by, name, senders=senders, permissions=permissions, per_minute=per_minute
        ),
    )
    created = (
        t(
            "Created API key {name} for {senders}. Save it now: it cannot be shown again.",
            name=repr(name),
            senders=", ".join(senders),
        )
        if senders
        else t(
            "Created API key {name} for any sender. Save it now: it cannot be shown again.",
            name=repr(name),
        )
    )
    print_once(
        secret if quiet else joined([created, secret], "\n"),
        or_else=t(
            "API key {name} was created but could not be shown: run `mailerd keys revoke {quoted}` and create another",
            name=repr(name),
            quoted=shlex.quote(name),
        ),
    )


@app.command("rotate")
def rotate(
    which: Annotated[
        str,
        typer.Argument(metavar="ID|NAME", help="The ID or name of the key in `mailerd keys list`."),
    ],
    overlap: Annotated[
        float,
        typer.Option(min=0, max=366 * 86_400, help="Seconds for which the old key remains valid."),
    ] = 86_400,
    config: ConfigOption = None,
) -> None:
    """Replace a key. The new key is the last line of the output; the old one remains valid for a while."""
    secret = _ask(config, lambda by: keys.rotate(by, which, overlap=timedelta(seconds=overlap)))
    print_once(
        joined(
            [
                t(
                    "Replaced API key {name}. The old one remains valid for {overlap}.",
                    name=repr(which),
                    overlap=in_words(overlap),
                ),
                secret,
            ],
            "\n",
        ),
        or_else=t(
            "API key {name} was replaced, but the new one could not be shown. The old one remains valid for {overlap}. "
            "Rotate it again: that ends the old one at once",
            name=repr(which),
            overlap=in_words(overlap),
        ),
    )


@app.command("list")
def list_keys(
    *,
    as_json: JsonOption = False,
    wide: WideOption = False,
    config: ConfigOption = None,
) -> None:
    """List all keys, including revoked ones."""
    found = _ask(config, keys.index)
    if as_json:
        print_json({"keys": [_as_json(key) for key in found]})
        return
    if narrow(wide=wide):
        rows = [
            [row[0], row[1], t("revoked") if row[8] else row[7][:10] or "-", row[4], row[3]]
            for row in map(_row, found)
        ]
        headings = [t("ID"), t("Name"), t("Last used"), t("Permissions"), t("Senders")]
        print_fitting(table(headings, rows, soft={1, 3, 4}))
        return
    columns = (
        t("ID"),
        t("Name"),
        t("Key"),
        t("Senders"),
        t("Permissions"),
        t("Per minute"),
        t("Created"),
        t("Last used"),
        t("Revoked at"),
        t("Old key valid until"),
    )
    print_list(columns, map(_row, found))


@app.command("revoke")
def revoke(
    which: Annotated[
        str,
        typer.Argument(metavar="ID|NAME", help="The ID or name of the key in `mailerd keys list`."),
    ],
    config: ConfigOption = None,
) -> None:
    """Revoke a key permanently. Daemons reject it within seconds."""
    revoked = _ask(config, lambda by: keys.revoke(by, which))
    echo(t("Revoked API key {id}.", id=revoked.id))
    if revoked.webhooks:
        names = ", ".join(revoked.webhooks)
        echo(
            t(
                "Webhook endpoints that it created remain active: {names}. To remove one: "
                "`mailerd webhooks remove NAME`",
                names=names,
            )
        )


def _ask[T](config: Path | None, work: Callable[[Caller], Awaitable[T]]) -> T:
    return with_caller(settings(config), work)


def sender_option(given: str) -> str:
    """The mailbox that an option --sender names.

    Raises:
        MailerdError: it is no address.
    """
    try:
        return mailbox(given)
    except ValueError as error:
        raise MailerdError(t("--sender {given}: {why}", given=given, why=str(error))) from None


def _row(key: ApiKey) -> tuple[str, ...]:
    senders = t("any") if key.senders is None else ", ".join(sorted(key.senders))
    calls = t("all") if key.is_admin else ", ".join(key.granted)
    rate = "" if key.per_minute is None else str(key.per_minute)
    moments = (key.created_at, key.last_used_at, key.revoked_at, key.old_until)
    return str(key.id), key.name, key.hint, senders, calls, rate, *map(in_utc, moments)


def _as_json(key: ApiKey) -> dict[str, object]:
    return {
        "id": key.id,
        "name": key.name,
        "key": key.hint,
        "senders": None if key.senders is None else sorted(key.senders),
        "permissions": None if key.permissions is None else sorted(key.permissions),
        "per_minute": key.per_minute,
        **{
            name: getattr(key, name)
            for name in ("created_at", "last_used_at", "revoked_at", "old_until")
        },
    }
