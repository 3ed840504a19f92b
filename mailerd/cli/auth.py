"""`mailerd auth login|list`: signing a mailbox in, and which ones are."""

import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final

import typer

from mailerd.cli.common import PATIENCE, ConfigOption, no_log, open_database, run_async, settings
from mailerd.cli.keys import sender_option
from mailerd.cli.output import JsonOption, print_json, print_list
from mailerd.config import GmailSettings, Settings
from mailerd.core.replies import Call, Reply
from mailerd.core.verdicts import judge
from mailerd.errors import MailerdError
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
from mailerd.store.inbox.mailboxes import NoticeReader
from mailerd.store.senders import Senders, default_limits
from mailerd.texts import label, tr

_DAY: Final = 86_400.0

app = typer.Typer(help="Sign mailboxes in at Google, and show which ones are.", no_args_is_help=True)


@app.command("login")
def login(
    *,
    sender: Annotated[str, typer.Option(help="The mailbox, as Google calls the account.")],
    client: Annotated[
        Path | None,
        typer.Option(help='The OAuth client\'s JSON ("Desktop app"); client.json in credentials_dir when not given.'),
    ] = None,
    metadata: Annotated[
        bool,
        typer.Option("--metadata", help="Ask for gmail.metadata too: replies are seen, and bounces by their headers."),
    ] = False,
    readonly: Annotated[
        bool,
        typer.Option("--readonly", help="Ask for gmail.readonly too: bounces, limit notices and replies are read."),
    ] = False,
    send_only: Annotated[
        bool, typer.Option("--send-only", help="Ask for gmail.send instead of gmail.compose: no drafts, doubts stay.")
    ] = False,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Where the browser comes back to; 0 takes a free one.")
    ] = 0,
    timeout: Annotated[float, typer.Option(min=1, max=3600, help="Seconds to wait for the browser.")] = 300.0,
    config: ConfigOption = None,
) -> None:
    """Sign a mailbox in: prints an address to open in any browser, and writes the credential file."""
    known = settings(config).gmail
    sender = sender_option(sender)
    if sender in known.aliases:
        raise SignInError(f"{sender} is an alias of {known.aliases[sender]} (gmail.aliases): sign that mailbox in")
    if metadata and readonly:
        raise SignInError(
            "--metadata and --readonly exclude each other: with both scopes Google refuses to show a body"
        )
    scopes = (SEND if send_only else COMPOSE, *((METADATA,) if metadata else (READONLY,) if readonly else ()))
    key = read_client(client or known.credentials_dir / "client.json")
    place = credential_path(sender, known.credentials_dir)
    _warn_of_loss(known, AuthorizationRequest(sender, scopes))
    done = run_async(
        _sign_in(known, AuthorizationRequest(sender, scopes), client=key, place=place, port=port, within=timeout)
    )
    _print_signed_in(sender, done, place)


def _warn_of_loss(known: GmailSettings, wanted: AuthorizationRequest) -> None:
    """Say which right to read the mailbox has now and would lose; it was renewed perhaps as a log line told."""
    has = next((each.scopes for each in inventory(known) if each.owner == wanted.sender and each.used), ())
    options = {READONLY: "--readonly", METADATA: "--metadata"}
    for scope in options.keys() & has if not options.keys() & wanted.scopes else ():
        print(
            tr(
                f"{wanted.sender} has {_short(scope)} now, and this sign-in does not ask for it: what comes back would "
                f"not be read any more. To keep it, end this and add {options[scope]}."
            ),
            end="\n\n",
        )


async def _sign_in(
    known: GmailSettings, authorization: AuthorizationRequest, *, client: Client, place: Path, port: int, within: float
) -> SignedIn:
    try:
        async with listening(port=port, state=authorization.state, on_rejected=_aside) as callbacks:
            back = f"http://127.0.0.1:{callbacks.port}/"
            _ask(
                authorization.url(known.auth_uri, client=client, redirect_uri=back), port=callbacks.port, within=within
            )
            callback = await callbacks.callback(timeout=within)
            try:
                done = await _answered(known, callback, authorization=authorization, client=client, back=back)
                save(place, done.credentials)
            except MailerdError as error:
                callback.show(tr(f"The sign-in failed. {error}"), status=400)
                raise
            callback.show(tr(f"{authorization.sender} is signed in. You may close this window."))
            return done
    except TimeoutError:
        raise SignInError(f"no answer came back from Google within {within:g} s; nothing was changed") from None
    except OSError as error:
        raise SignInError(f"127.0.0.1:{port} cannot be listened on: {error.strerror}; choose another --port") from error


async def _answered(
    known: GmailSettings, callback: Callback, *, authorization: AuthorizationRequest, client: Client, back: str
) -> SignedIn:
    if refusal := callback.parameters.get("error"):
        why = (
            tr("it was declined in the browser")
            if refusal == "access_denied"
            else tr(f"Google answered {refusal[:100]!r}")
        )
        raise SignInError(f"{authorization.sender} was not signed in: {why}; nothing was changed")
    async with SignIn(known, events=GmailEvents(no_log)) as google:
        done = await google.exchange_code(
            callback.parameters.get("code", ""), authorization=authorization, client=client, redirect_uri=back
        )
        needed = authorization.scopes[0]
        if needed not in done.credentials.scopes:
            raise SignInError(
                f"{needed} was not granted: tick its box on Google's page and try again; nothing was changed"
            )
        if set(done.credentials.scopes) != {SEND}:
            _insist(await google.address_of(done), sender=authorization.sender)
    return done


def _insist(found: str | Reply, *, sender: str) -> None:
    """Only the account that was named may be stored under its name."""
    if not isinstance(found, str):
        why = judge(Call.GET_PROFILE, found).reason
        raise SignInError(f"whose account it is could not be asked: {why}; nothing was changed")
    if found.lower() != sender:
        raise SignInError(
            f"the account that agreed is {found}, not {sender}; nothing was changed. Choose the right account in the "
            f"browser; if {sender} is a send-as alias of {found}, sign {found} in and set gmail.aliases = "
            f'{{"{sender}" = "{found}"}}'
        )


def _ask(url: str, *, port: int, within: float) -> None:
    host = socket.gethostname()
    print(tr("Open this address in a browser, and agree:"), f"\n  {url}\n", sep="\n")
    print(
        tr(
            f"The browser then comes back to 127.0.0.1:{port} on this machine. If it runs on another one, "
            "first run there:"
        )
    )
    print(tr(f"\n  ssh -L {port}:127.0.0.1:{port} {host}\n\nWaiting {within:g} s for it ..."), flush=True)


def _aside(text: str) -> None:
    print(tr(f"mailerd: {text}; still waiting"), file=sys.stderr, flush=True)


def _print_signed_in(sender: str, done: SignedIn, place: Path) -> None:
    scopes = done.credentials.scopes
    box = mailbox_with(sender, scopes=scopes)
    mode = getattr(box, "mode", "unknown")
    print(
        tr(
            f"{sender} is signed in: {label(mode)} mode, scopes {', '.join(map(_short, scopes))}. Written: {place} "
            "(mode 0600)."
        )
    )
    if set(scopes) == {SEND}:
        print(
            tr(
                f"Not verified: that the account is {sender}. With gmail.send alone Google does not say whose "
                "it is; if "
                "another account agreed, letters come from that one."
            )
        )
    if done.ends_in is not None:
        print(
            tr(
                f'Google says that this sign-in ends in {done.ends_in / _DAY:.0f} days: the OAuth app is in "Testing". '
                "Publish it in the Cloud console and sign in again."
            )
        )


def _short(scope: str) -> str:
    return scope.removeprefix("https://www.googleapis.com/auth/")


@app.command("list")
def list_mailboxes(*, as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Show every mailbox that has a credential file, and every alias; exit code 1 when one has a problem."""
    everything = settings(config)
    known = everything.gmail
    entries, refused = inventory(known), run_async(_refused(everything))
    entries = [each if each.problem else replace(each, problem=_problem(each.owner, refused)) for each in entries]
    shown = [
        {
            "mailbox": each.owner, "kind": each.kind, "mode": each.mode or None, "scopes": list(each.scopes),
            "file": str(each.path), "problem": each.problem or None,
        }
        for each in entries
    ]  # fmt: skip
    rows = [_row(each) for each in entries]
    owners = {each.owner for each in entries}
    problems = any(each.problem for each in entries)
    for alias, target in known.aliases.items():
        there = target in owners or f"@{target.rpartition('@')[2]}" in owners
        problem = "" if there else tr(f"{target} has no credential file; `mailerd auth login --sender {target}`")
        problems = problems or not there
        rows.append((alias, tr(f"alias of {target}"), "", "", "", problem))
        shown.append({"mailbox": alias, "kind": "alias", "alias_of": target, "problem": problem or None})
    if as_json:
        print_json(shown)
    else:
        print_list(("mailbox", "kind", "mode", "scopes", "file", "problem"), rows)
        _explain(known, entries, refused)
    if problems:
        raise typer.Exit(1)


def _row(it: Entry) -> tuple[str, ...]:
    unknown = "" if it.problem else "?"
    scopes = " ".join(map(_short, it.scopes))
    return it.owner, label(it.kind), label(it.mode) or unknown, scopes or unknown, str(it.path), it.problem


async def _refused(known: Settings) -> Mapping[str, str] | None:
    """Why Google refuses mailboxes, as their letters and their inboxes met it last; None: it is not known."""
    try:
        async with open_database(known, no_log) as database:
            repairs = await Senders(database, default_limits(known)).repairs()
            inboxes = await NoticeReader(database, timeout=PATIENCE).inboxes()
    except MailerdError:
        return None
    unread = {it.email: tr(f"its inbox cannot be read: {it.detail}") for it in inboxes if it.state == "refused"}
    return unread | {sender: tr(f"no letter goes until {mend}") for sender, mend in repairs.items()}


def _problem(owner: str, refused: Mapping[str, str] | None) -> str:
    """Of a mailbox, or of all mailboxes of an @domain."""
    found = [
        mend for sender, mend in (refused or {}).items() if sender == owner or f"@{sender.partition('@')[2]}" == owner
    ]
    return found[0] if found else ""


def _explain(known: GmailSettings, entries: Sequence[Entry], refused: Mapping[str, str] | None) -> None:
    """What the list leaves open."""
    if not entries:
        print(tr(f"No mailbox in {known.credentials_dir}: `mailerd auth login --sender me@example.com`"))
    elif any(not each.mode and not each.problem for each in entries):
        print(tr("?: the file does not say; `mailerd check` asks Google."))
    elif refused is None:
        print(tr("Whether Google takes them is not known, since the database cannot be read; `mailerd check` asks it."))
