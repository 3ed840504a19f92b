"""`mailerd keys create|rotate|list|revoke`: who may post jobs."""

import shlex
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from mailerd.cli.common import ConfigOption, settings, with_database
from mailerd.cli.output import (
    JsonOption,
    WideOption,
    in_utc,
    narrow,
    print_fitting,
    print_json,
    print_list,
    print_once,
    table,
)
from mailerd.errors import MailerdError
from mailerd.mail.mime import mailbox
from mailerd.store.api_keys import ApiKey, ApiKeys, Permission
from mailerd.store.webhooks import Webhooks
from mailerd.texts import heading, tr

app = typer.Typer(help="Make, rotate, list and revoke API keys.", no_args_is_help=True)


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="What the key is for, as the list and the log will call it.")],
    sender: Annotated[
        list[str] | None,
        typer.Option(help="A mailbox that the key may send from; may be repeated; without it, any."),
    ] = None,
    call: Annotated[
        list[Permission] | None,
        typer.Option(help="What the key may do; may be repeated; without it, everything."),
    ] = None,
    per_minute: Annotated[
        int | None, typer.Option(min=1, max=1_000_000, help="Requests in a minute, for each daemon; more get 429.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Make a key. It is the last line of the output, and is never shown again."""
    senders = [sender_option(each) for each in sender or ()]
    secret = _ask(
        config, lambda keys: keys.create(name, senders=senders, permissions=call or (), per_minute=per_minute)
    )
    told = tr(f"Key {name!r}, for {', '.join(senders) or tr('any sender')}. Keep it well: only its digest is stored.")
    print_once(
        f"{told}\n{secret}",
        or_else=tr(
            f"the key {name!r} exists, but was not shown: `mailerd keys revoke {shlex.quote(name)}`, make another"
        ),
    )


@app.command("rotate")
def rotate(
    which: Annotated[str, typer.Argument(metavar="ID|NAME", help="As `mailerd keys list` shows it.")],
    overlap: Annotated[
        float, typer.Option(min=0, max=366 * 86_400, help="Seconds for which the old key is still good.")
    ] = 86_400,
    config: ConfigOption = None,
) -> None:
    """Make a new key in the place of one, which is good for a while yet. It is the last line of the output."""
    secret = _ask(config, lambda keys: keys.rotate(which, overlap=timedelta(seconds=overlap)))
    print_once(
        tr(f"Key {which!r} has a new secret; the old one is good for {overlap:g} s more.\n{secret}"),
        or_else=tr(
            f"the key {which!r} has a new secret, which was not shown; the old one is good for {overlap:g} s more: "
            "rotate it again, which ends the old one at once"
        ),
    )


@app.command("list")
def list_keys(
    *,
    as_json: JsonOption = False,
    wide: WideOption = False,
    config: ConfigOption = None,
) -> None:
    """Show every key, revoked ones too."""
    found = _ask(config, lambda keys: keys.all())
    if as_json:
        print_json([_as_json(key) for key in found])
        return
    if narrow(wide=wide):
        rows = [
            [row[0], row[1], "revoked" if row[8] else row[7][:10] or "-", row[4], row[3]] for row in map(_row, found)
        ]
        print_fitting(table(["id", "name", tr("last used"), "may", "senders"], rows, soft={1, 3, 4}))
        return
    columns = ("id", "name", "key", "senders", "may", "a minute", "created", tr("last used"), "revoked")
    print_list((*columns, tr("old one until")), map(_row, found))


@app.command("revoke")
def revoke(
    which: Annotated[str, typer.Argument(metavar="ID|NAME", help="As `mailerd keys list` shows it.")],
    config: ConfigOption = None,
) -> None:
    """Revoke a key for good; daemons refuse it within seconds."""
    known = settings(config)
    timeout = known.database.connect_timeout
    number = with_database(known, lambda database: ApiKeys(database, timeout=timeout).revoke(which))
    print(tr(f"Key {number} is revoked."))
    go_on = with_database(known, lambda database: Webhooks(database, timeout=timeout).made_by(number))
    if go_on:
        names = ", ".join(go_on)
        print(tr(f"Endpoints of webhooks that it made go on: {names}. `mailerd webhooks remove NAME` ends one."))


def _ask[T](config: Path | None, work: Callable[[ApiKeys], Awaitable[T]]) -> T:
    known = settings(config)
    return with_database(known, lambda database: work(ApiKeys(database, timeout=known.database.connect_timeout)))


def sender_option(given: str) -> str:
    """The mailbox that an option --sender names.

    Raises:
        MailerdError: it is no address.
    """
    try:
        return mailbox(given)
    except ValueError as error:
        raise MailerdError(f"--sender {given}: {error}") from None


def _row(key: ApiKey) -> tuple[str, ...]:
    senders = heading("any") if key.senders is None else ", ".join(sorted(key.senders))
    calls = heading("all") if key.permissions is None else ", ".join(sorted(key.permissions))
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
        **{name: getattr(key, name) for name in ("created_at", "last_used_at", "revoked_at", "old_until")},
    }
