"""`mailerd sandbox fault|faults|notice|mailbox`: what goes wrong and what comes back at Google's stand-in."""

import json
from http.client import HTTPConnection
from typing import Annotated, Any, Final

import typer
from yarl import URL

from mailerd.cli.common import ConfigOption, settings
from mailerd.core.plural import counted
from mailerd.errors import MailerdError
from mailerd.texts import tr

_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_TIMEOUT: Final = 5.0
"""Seconds for the stand-in, which is on this machine."""
_OK: Final = 200


def fault(
    kind: Annotated[str, typer.Argument(help="What goes wrong: `mailerd sandbox faults --kinds` lists them.")],
    *,
    method: Annotated[str, typer.Option(help="drafts.create, drafts.send … or token; without it, every one.")] = "",
    sender: Annotated[str, typer.Option(help="The mailbox that it is for; without it, every one.")] = "",
    count: Annotated[int, typer.Option(min=-1, help="How often; -1 until it is cleared.")] = 1,
    skip: Annotated[int, typer.Option(min=0, help="Requests that are spared before.")] = 0,
    probability: Annotated[float, typer.Option(min=0.0, max=1.0, help="1 for every request after that.")] = 1.0,
    seconds: Annotated[float, typer.Option(min=0.0, help="How long a latency, a hang or a late answer lasts.")] = 60.0,
    config: ConfigOption = None,
) -> None:
    """Let something go wrong at the sandbox's Google: for the next call, or as often as you say."""
    wanted = {
        "kind": kind, "method": method, "sender": sender, "count": count, "skip": skip, "probability": probability,
        "seconds": seconds,
    }  # fmt: skip
    print(_line(_Control(settings(config).gmail.api_root).ask("POST", "faults", wanted)))


def faults(
    *,
    clear: Annotated[bool, typer.Option("--clear", help="Lift all of them.")] = False,
    kinds: Annotated[bool, typer.Option("--kinds", help="What can go wrong.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    config: ConfigOption = None,
) -> None:
    """Show the faults that are in force and those that have struck; or lift them."""
    if kinds:
        from mailerd.sandbox.google.fault_words import WHAT_HAPPENS  # noqa: PLC0415 # a daemon never loads the stand-in

        width = max(map(len, WHAT_HAPPENS))
        print("\n".join(f"{kind:{width}}  {tr(words)}" for kind, words in WHAT_HAPPENS.items()))
        return
    control = _Control(settings(config).gmail.api_root)
    if clear:
        control.ask("DELETE", "faults")
    found = control.ask("GET", "faults")
    if as_json:
        print(json.dumps(found, ensure_ascii=False, indent=2))
        return
    for it in (*found["faults"], *found["spent"]):
        print(_line(it))
    if not (found["faults"] or found["spent"]):
        print(tr("nothing is to go wrong"))


def notice(
    shape: Annotated[
        str, typer.Argument(help="What comes back: hard, limit, reply, auto_reply … or `shapes`, a list.")
    ],
    *,
    to: Annotated[str, typer.Option(help="Only about letters to addresses that hold this.")] = "",
    sender: Annotated[str, typer.Option(help="The mailbox that it comes into; without it, every one.")] = "",
    count: Annotated[int, typer.Option(min=1, help="About so many letters, the oldest first.")] = 1,
    config: ConfigOption = None,
) -> None:
    """Let something come back to the sandbox's mailboxes: a bounce, a limit notice, an answer, a forgery."""
    if shape == "shapes":
        from mailerd.sandbox.google.notices import SHAPES  # noqa: PLC0415 # a daemon never loads the stand-in

        print("\n".join(SHAPES))
        return
    wanted = {"shape": shape, "to": to, "sender": sender, "count": count}
    came = _Control(settings(config).gmail.api_root).ask("POST", "notices", wanted)["notices"]
    print(tr(f"it comes back {counted(came, 'time')}"))


def mailbox(
    email: Annotated[str, typer.Argument(metavar="EMAIL")],
    *,
    revoke: Annotated[
        bool | None, typer.Option("--revoke/--restore", help="Whether Google honours the sign-in.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Revoke a mailbox's sign-in at the sandbox's Google, as its owner would, or restore it."""
    if revoke is None:
        raise typer.BadParameter("give one of the two", param_hint="--revoke/--restore")
    _Control(settings(config).gmail.api_root).ask("PATCH", f"mailboxes/{email}", {"revoked": revoke})
    print(tr(f"the sign-in of {email} is {'revoked' if revoke else tr('good again')}"))


def _line(it: dict[str, Any]) -> str:
    where = tr(f" at {it['method']}") if it["method"] else ""
    whom = tr(f" for {it['sender']}") if it["sender"] else ""
    often = tr("until it is cleared") if it["count"] < 0 else f"{it['count']}x"
    return tr(f"{it['id']}: {it['kind']}{where}{whom}, {often}, has struck {it['struck']}x")


class _Control:
    """The control calls of the stand-in; Google itself is asked nothing here."""

    def __init__(self, api_root: str) -> None:
        self._url = URL(api_root)
        if self._url.host not in _LOOPBACK:
            raise MailerdError(
                f"gmail.api_root is {api_root}, which is no sandbox: call this in the folder of one that runs"
            )

    def ask(self, verb: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Call it.

        Raises:
            MailerdError: it refuses, or is not there.
        """
        connection = HTTPConnection(self._url.host or "", self._url.port, timeout=_TIMEOUT)
        try:
            connection.request(verb, f"/sandbox/{path}", json.dumps(body) if body is not None else None)
            response = connection.getresponse()
            answer: dict[str, Any] = json.loads(response.read())
        except (OSError, ValueError) as error:
            raise MailerdError(f"no sandbox answers at {self._url}: {error}; start `mailerd sandbox`") from error
        finally:
            connection.close()
        if response.status != _OK:
            raise MailerdError(f"the sandbox refuses that: {answer.get('error', response.reason)}")
        return answer
