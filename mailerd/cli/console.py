"""`mailerd console login`: a link that signs a browser in to the console, once."""

from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from typing import Annotated

import typer

from mailerd.cli.common import ConfigOption, asked_by, settings, with_database
from mailerd.cli.output import echo
from mailerd.core.i18n import t, tn
from mailerd.errors import MailerdError
from mailerd.store.db.database import Database
from mailerd.store.write.api_keys import LINK_VALID, ApiKeys, Sessions

TIMEOUT = 4.0
"""Seconds for one query, and for the daemon's answer."""
CONSOLE_KEY = "console"
"""The key that is made where none is named; its secret is kept nowhere."""

app = typer.Typer(help="Sign in to the console in a browser.", no_args_is_help=True)


@app.callback()
def console() -> None:
    """Sign in to the console in a browser."""


@app.command("login")
def login(
    key: Annotated[
        str,
        typer.Option(
            help="The API key to sign in with, by its name. The key `console` is created if needed."
        ),
    ] = CONSOLE_KEY,
    config: ConfigOption = None,
) -> None:
    """Print a link that signs a browser in. It works once, within ten minutes."""
    known = settings(config)
    if not known.web.enabled:
        raise MailerdError(t("the console is disabled: set web.enabled = true"))
    host = "127.0.0.1" if known.intake.host in {"0.0.0.0", "::"} else known.intake.host  # noqa: S104 - it is compared
    named = known.web.hosts.split(",")[0]
    if known.intake.unix_socket and not named:
        raise MailerdError(
            t(
                "the API listens on a socket file (intake.unix_socket), which a browser cannot open: add the host name "
                "of its proxy to web.hosts"
            )
        )
    where = (
        f"https://{named}"
        if named
        else f"http://{f'[{host}]' if ':' in host else host}:{known.intake.port}"
    )
    # by its name it may be reached from elsewhere alone
    if not named and not _answers(host, known.intake.port):
        raise MailerdError(
            t(
                "no daemon is responding at {address}, so the link would not work: start `mailerd run`",
                address=where,
            )
        )
    secret = with_database(known, lambda database: _link(database, key))
    minutes = round(LINK_VALID.total_seconds() / 60)
    echo(
        tn(
            "Open this link in a browser within {n} minute. It works once:",
            "Open this link in a browser within {n} minutes. It works once:",
            minutes,
        )
    )
    print(f"{where}/login/{secret}")


def _answers(host: str, port: int) -> bool:
    """Whether a daemon answers there."""
    connection = HTTPConnection(host, port, timeout=TIMEOUT)
    try:
        connection.request("GET", "/health/live")
        return connection.getresponse().status == HTTPStatus.OK
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


async def _link(database: Database, name: str) -> str:
    keys = ApiKeys(database, timeout=TIMEOUT)
    if (found := await _named(keys, name)) is None and name == CONSOLE_KEY:
        await keys.create(name, actor=asked_by())
        found = await _named(keys, name)
    if found is None:
        raise MailerdError(
            t(
                "no valid API key has the name {name}: `mailerd keys list` shows all keys",
                name=repr(name),
            )
        )
    return await Sessions(database, TIMEOUT).create_link(found)


async def _named(keys: ApiKeys, name: str) -> int | None:
    return next(
        (key.id for key in await keys.all() if key.name == name and key.revoked_at is None), None
    )
