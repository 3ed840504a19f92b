"""`mailerd auth login|list`: authorizes a mailbox at Google, and lists those that are
authorized.
"""

import socket
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final

import typer

from mailerd.cli.common import PATIENCE, ConfigOption, no_log, open_database, run_async, settings
from mailerd.cli.keys import sender_option
from mailerd.cli.output import JsonOption, echo, print_json
from mailerd.cli.tables import print_list
from mailerd.config import GmailSettings, Settings
from mailerd.core.i18n import t, tn
from mailerd.core.replies import Call, Reply
from mailerd.core.verdicts import judge
from mailerd.errors import MailerdError, SchemaError
from mailerd.events.worker import GmailEvents
from mailerd.gmail.credentials import (
    COMPOSE,
    METADATA,
    READONLY,
    SEND,
    Entry,
    credential_path,
    inventory,
    mailbox_with,
    save,
)
from mailerd.gmail.oauth_login import (
    AuthorizationRequest,
    Callback,
    Client,
    SignedIn,
    SignIn,
    SignInError,
    listening,
    read_client,
)
from mailerd.locale import label, say
from mailerd.store.inbox.mailboxes import NoticeReader
from mailerd.store.queue.rate_limits import default_limits
from mailerd.store.read.senders import Senders

_DAY: Final = 86_400.0

app = typer.Typer(
    help="Authorize mailboxes at Google, and list those that are authorized.", no_args_is_help=True
)


@app.command("login")
def login(
    *,
    sender: Annotated[str, typer.Option(help="The address of the mailbox's Google account.")],
    client: Annotated[
        Path | None,
        typer.Option(
            help='JSON file of the OAuth client ("Desktop app"). Default: client.json in credentials_dir.'
        ),
    ] = None,
    metadata: Annotated[
        bool,
        typer.Option(
            "--metadata",
            help="Also request gmail.metadata: detects replies, and bounces by their headers.",
        ),
    ] = False,
    readonly: Annotated[
        bool,
        typer.Option(
            "--readonly",
            help="Also request gmail.readonly: reads bounces, limit notices and replies.",
        ),
    ] = False,
    send_only: Annotated[
        bool,
        typer.Option(
            "--send-only",
            help="Request gmail.send instead of gmail.compose: no drafts, and unconfirmed messages need a person.",
        ),
    ] = False,
    port: Annotated[
        int,
        typer.Option(
            min=0, max=65535, help="The port that the browser returns to; 0 takes a free one."
        ),
    ] = 0,
    timeout: Annotated[
        float, typer.Option(min=1, max=3600, help="Seconds to wait for the browser.")
    ] = 300.0,
    config: ConfigOption = None,
) -> None:
    """Authorize a mailbox: print an address to open in a browser, then write the credential file.

    Without --readonly, --metadata or --send-only it requests the scopes that the mailbox has or had.
    """
    everything = settings(config)
    known, sender = everything.gmail, sender_option(sender)
    if sender in known.aliases:
        raise SignInError(
            t(
                "{sender} is an alias of {mailbox} (gmail.aliases): authorize that mailbox",
                sender=sender,
                mailbox=known.aliases[sender],
            )
        )
    if metadata and readonly:
        raise SignInError(
            t(
                "--metadata and --readonly cannot be combined: with both scopes Google does not show message bodies"
            )
        )
    if metadata or readonly:
        had: Collection[str] = ()
        scopes: tuple[str, ...] = (
            SEND if send_only else COMPOSE,
            METADATA if metadata else READONLY,
        )
    else:
        had = _had(everything, sender)
        scopes = (SEND,) if send_only else _same_scopes(had)
    key = read_client(client or known.credentials_dir / "client.json")
    place = credential_path(sender, known.credentials_dir)
    _warn_of_loss(had, AuthorizationRequest(sender, scopes))
    done = run_async(
        _sign_in(
            known,
            AuthorizationRequest(sender, scopes),
            client=key,
            place=place,
            port=port,
            within=timeout,
        )
    )
    _print_signed_in(sender, done, place)


def _had(known: Settings, sender: str) -> frozenset[str]:
    """The scopes that the mailbox has or had: those of its credential file, and those that the
    daemons used last.

    The file may be gone, unreadable or another one, and it need not name its scopes.
    """
    of_file = next(
        (it.scopes for it in inventory(known.gmail) if it.owner == sender and it.used), ()
    )
    try:
        used = run_async(_used(known, sender))
    except SchemaError:  # nothing was sent yet
        used = frozenset()
    except MailerdError as error:
        if not of_file:
            echo(
                t(
                    "Cannot tell which scopes {sender} had: {error}. If its bounces were read, press Ctrl-C and add "
                    "--readonly.",
                    sender=sender,
                    error=str(error),
                )
            )
            echo()
        used = frozenset()
    found = set(of_file)
    for kind in ({SEND, COMPOSE}, {READONLY, METADATA}):
        if not kind & found:
            found |= kind & used
    return frozenset(found)


async def _used(known: Settings, sender: str) -> frozenset[str]:
    """The scopes with which the daemons sent and read last."""
    async with open_database(known, no_log) as database:
        mode = await Senders(database, default_limits(known)).mode(sender, within=PATIENCE)
        inboxes = await NoticeReader(database, timeout=PATIENCE).inboxes()
    sends = {SEND} if mode == "direct" else set()
    reads = {
        {"readonly": READONLY, "metadata": METADATA}.get(it.scope, "")
        for it in inboxes
        if it.email == sender
    }
    return frozenset(sends | reads) - {""}


def _same_scopes(had: Collection[str]) -> tuple[str, ...]:
    """What is requested where no scope is named: every remedy says no more than `mailerd auth login
    --sender …`.
    """
    sends = SEND if SEND in had and COMPOSE not in had else COMPOSE
    return (sends, *next(((scope,) for scope in (READONLY, METADATA) if scope in had), ()))


def _warn_of_loss(has: Collection[str], wanted: AuthorizationRequest) -> None:
    """Say which scope to read the mailbox would be lost."""
    options = {READONLY: "--readonly", METADATA: "--metadata"}
    for scope in options.keys() & set(has) if not options.keys() & wanted.scopes else ():
        echo(
            t(
                "{sender} currently has {scope}, which this authorization does not request: bounces and replies would "
                "no longer be read. To keep it, press Ctrl-C and add {option}.",
                sender=wanted.sender,
                scope=_short(scope),
                option=options[scope],
            )
        )
        echo()


async def _sign_in(
    known: GmailSettings,
    authorization: AuthorizationRequest,
    *,
    client: Client,
    place: Path,
    port: int,
    within: float,
) -> SignedIn:
    try:
        async with listening(port=port, state=authorization.state, on_rejected=_aside) as callbacks:
            back = f"http://127.0.0.1:{callbacks.port}/"
            _ask(
                authorization.url(known.auth_uri, client=client, redirect_uri=back),
                port=callbacks.port,
                within=within,
            )
            callback = await callbacks.callback(timeout=within)
            try:
                done = await _answered(
                    known, callback, authorization=authorization, client=client, back=back
                )
                save(place, done.credentials)
            except MailerdError as error:
                callback.show(say(t("Authorization failed: {error}", error=str(error))), status=400)
                raise
            callback.show(
                say(
                    t(
                        "{sender} is authorized. You can close this window.",
                        sender=authorization.sender,
                    )
                )
            )
            return done
    except TimeoutError:
        raise SignInError(
            t("no response from Google within {seconds:g} s; nothing was changed", seconds=within)
        ) from None
    except OSError as error:
        raise SignInError(
            t(
                "cannot listen on 127.0.0.1:{port}: {cause}. Choose another --port",
                port=port,
                cause=error.strerror,
            )
        ) from error


async def _answered(
    known: GmailSettings,
    callback: Callback,
    *,
    authorization: AuthorizationRequest,
    client: Client,
    back: str,
) -> SignedIn:
    if refusal := callback.parameters.get("error"):
        why = (
            t("access was declined in the browser")
            if refusal == "access_denied"
            else t("Google returned {error}", error=repr(refusal[:100]))
        )
        raise SignInError(
            t(
                "{sender} was not authorized: {why}; nothing was changed",
                sender=authorization.sender,
                why=why,
            )
        )
    async with SignIn(known, events=GmailEvents(no_log)) as google:
        done = await google.exchange_code(
            callback.parameters.get("code", ""),
            authorization=authorization,
            client=client,
            redirect_uri=back,
        )
        needed = authorization.scopes[0]
        if needed not in done.credentials.scopes:
            raise SignInError(
                t(
                    "{scope} was not granted; nothing was changed. Try again, and tick its box on Google's page",
                    scope=needed,
                )
            )
        if set(done.credentials.scopes) != {SEND}:
            _insist(await google.address_of(done), sender=authorization.sender)
    return done


def _insist(found: str | Reply, *, sender: str) -> None:
    """Only the account that was named may be stored under its name."""
    if not isinstance(found, str):
        why = judge(Call.GET_PROFILE, found).reason
        raise SignInError(
            t("could not find out which account agreed: {why}; nothing was changed", why=why)
        )
    if found.lower() != sender:
        raise SignInError(
            t(
                "the account that agreed is {found}, not {sender}; nothing was changed. Choose the right account in "
                "the browser. If {sender} is a send-as alias of {found}, authorize {found} and set gmail.aliases = "
                '{{"{sender}" = "{found}"}}',
                found=found,
                sender=sender,
            )
        )


def _ask(url: str, *, port: int, within: float) -> None:
    echo(t("Open this address in a browser, and agree:"))
    echo(f"\n  {url}\n")
    echo(
        t(
            "The browser then returns to 127.0.0.1:{port} on this machine. If it runs on another machine, first run "
            "there:",
            port=port,
        )
    )
    echo(f"\n  ssh -L {port}:127.0.0.1:{port} {socket.gethostname()}\n")
    echo(t("Waiting up to {seconds:g} s ...", seconds=within), flush=True)


def _aside(text: str) -> None:
    echo(t("mailerd: {text}; still waiting", text=text), err=True, flush=True)


def _print_signed_in(sender: str, done: SignedIn, place: Path) -> None:
    scopes = done.credentials.scopes
    box = mailbox_with(sender, scopes=scopes)
    mode = getattr(box, "mode", "unknown")
    echo(
        t(
            "{sender} is authorized (mode: {mode}; scopes: {scopes}). Credential file: {place} (mode 0600).",
            sender=sender,
            mode=label(mode),
            scopes=", ".join(map(_short, scopes)),
            place=place,
        )
    )
    if set(scopes) == {SEND}:
        echo(
            t(
                "Not verified: whether the account is {sender}. With gmail.send alone, Google does not say which "
                "account agreed. If it was another one, messages are sent from that account.",
                sender=sender,
            )
        )
    if done.ends_in is not None:
        echo(
            tn(
                'Google ends this authorization in {n} day: the OAuth app is in "Testing". Publish it in the Cloud '
                "console, then authorize again.",
                'Google ends this authorization in {n} days: the OAuth app is in "Testing". Publish it in the Cloud '
                "console, then authorize again.",
                round(done.ends_in / _DAY),
            )
        )


def _short(scope: str) -> str:
    return scope.removeprefix("https://www.googleapis.com/auth/")


@app.command("list")
def list_mailboxes(*, as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """List all credential files and aliases. The exit code is 1 when one of them has a problem."""
    everything = settings(config)
    known = everything.gmail
    entries, refused = inventory(known), run_async(_refused(everything))
    entries = [
        each if each.problem else replace(each, problem=_problem(each.owner, refused))
        for each in entries
    ]
    shown = [
        {
            "mailbox": each.owner,
            "kind": each.kind,
            "mode": each.mode or None,
            "scopes": list(each.scopes),
            "file": str(each.path),
            "problem": each.problem or None,
        }
        for each in entries
    ]
    rows = [_row(each) for each in entries]
    owners = {each.owner for each in entries}
    problems = any(each.problem for each in entries)
    for alias, target in known.aliases.items():
        there = target in owners or f"@{target.rpartition('@')[2]}" in owners
        problem = (
            ""
            if there
            else t(
                "{sender} has no credential file: `mailerd auth login --sender {sender}`",
                sender=target,
            )
        )
        problems = problems or not there
        rows.append((alias, t("alias of {sender}", sender=target), "", "", "", problem))
        shown.append(
            {"mailbox": alias, "kind": "alias", "alias_of": target, "problem": problem or None}
        )
    if as_json:
        print_json({"mailboxes": shown})
    else:
        headings = (t("Mailbox"), t("Kind"), t("Mode"), t("Scopes"), t("File"), t("Problem"))
        print_list(headings, rows)
        _explain(known, entries, refused)
    if problems:
        raise typer.Exit(1)


def _row(it: Entry) -> tuple[str, ...]:
    unknown = "" if it.problem else "?"
    scopes = " ".join(map(_short, it.scopes))
    return (
        it.owner,
        label(it.kind),
        label(it.mode) or unknown,
        scopes or unknown,
        str(it.path),
        it.problem,
    )


async def _refused(known: Settings) -> Mapping[str, str] | None:
    """Why Google refuses mailboxes, as their messages and their inboxes met it last; None: it is
    not known.
    """
    try:
        async with open_database(known, no_log) as database:
            repairs = await Senders(database, default_limits(known)).repairs()
            inboxes = await NoticeReader(database, timeout=PATIENCE).inboxes()
    except MailerdError:
        return None
    unread = {
        it.email: t("inbox not readable: {cause}", cause=it.detail or "")
        for it in inboxes
        if it.state == "refused"
    }
    return unread | {
        sender: t("cannot send until {remedy}", remedy=mend) for sender, mend in repairs.items()
    }


def _problem(owner: str, refused: Mapping[str, str] | None) -> str:
    """Of a mailbox, or of all mailboxes of an @domain."""
    found = [
        mend
        for sender, mend in (refused or {}).items()
        if sender == owner or f"@{sender.partition('@')[2]}" == owner
    ]
    return found[0] if found else ""


def _explain(
    known: GmailSettings, entries: Sequence[Entry], refused: Mapping[str, str] | None
) -> None:
    """What the list leaves open."""
    if not entries:
        echo(
            t(
                "No mailboxes in {folder}. To authorize one: `mailerd auth login --sender me@example.com`",
                folder=known.credentials_dir,
            )
        )
    elif any(not each.mode and not each.problem for each in entries):
        echo(t("?: not in the file. `mailerd check` asks Google."))
    elif refused is None:
        echo(
            t(
                "Cannot tell whether Google accepts them: the database cannot be read. `mailerd check` asks Google."
            )
        )
