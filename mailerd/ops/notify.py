"""Sends alerts: JSON to a web hook, or through apprise to whatever it knows; nothing of it may hold up the sending."""

import asyncio
import importlib
import json
import threading
from collections.abc import Sequence
from ipaddress import ip_network
from typing import Any, Final, Protocol

from mailerd.core.network_rules import NetworkRules
from mailerd.errors import ConfigurationError
from mailerd.ops.alert_state import Message
from mailerd.ops.daemon_thread import in_thread
from mailerd.ops.outbound_http import OutboundHttp

SEND_TIMEOUT: Final = 15.0
"""Seconds that an alert gets to be sent."""
_RULES: Final = NetworkRules(
    allow_http=True, ports=frozenset(), allow_networks=(ip_network("0.0.0.0/0"), ip_network("::/0"))
)


class Notifier(Protocol):
    """A way to people."""

    async def send(self, message: Message) -> None:
        """Send it.

        Raises:
            OSError: it was not taken.
            TimeoutError: no answer came in time.
        """


class Webhook:
    """`{"source", "subject", "text", "lines", "firing"}` as a POST; anything but a 2xx is a failure.

    A setting of the operator names the address, so it may be in the operator's network, by http and at any port; the
    addresses that nothing opens stay closed.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._http = OutboundHttp(_RULES)

    async def send(self, message: Message) -> None:
        """Send it."""
        body = {
            "source": "mailerd",
            "subject": message.subject,
            "text": message.text,
            "lines": list(message.lines),
            "firing": list(message.firing),
        }
        answer = await self._http.post(
            self._url,
            json.dumps(body, ensure_ascii=False).encode(),
            {"Content-Type": "application/json"},
            within=SEND_TIMEOUT,
        )
        if not 200 <= answer.status < 300:  # noqa: PLR2004 - HTTP's successes
            raise OSError(f"the web hook answered {answer.status}")


class Apprise:
    """One address of apprise: Slack, e-mail, Feishu, DingTalk, WeCom, Telegram and many more.

    It blocks, so it has a thread of its own: a target that hangs holds up neither the loop, nor the other addresses,
    nor a stop. While it hangs nothing more is given to it.
    """

    def __init__(self, url: str, *, number: int) -> None:
        self._apprise, self._it = _load(url, number=number)
        self._name = f"alerts.urls, number {number}"  # the address itself may hold a token
        self._busy = False

    async def send(self, message: Message) -> None:
        """Send it."""
        if self._busy:
            raise OSError(f"{self._name} still hangs on an alert before this one")
        async with asyncio.timeout(SEND_TIMEOUT):
            await in_thread(lambda: self._notify(message))

    def _notify(self, message: Message) -> None:
        """Hand it to apprise; an error has what went wrong in its words."""
        mine = f"{threading.get_ident()} "  # all threads share apprise's log
        self._busy = True
        try:
            with self._apprise.LogCapture(level=self._apprise.logging.WARNING, fmt="%(thread)d %(message)s") as log:
                taken = self._it.notify(title=message.subject, body=message.text)
                said = [line.removeprefix(mine) for line in log.getvalue().splitlines() if line.startswith(mine)]
        except Exception as error:  # whatever a plug-in of apprise's raises, it must not end the alerts
            raise OSError(f"{self._name}: {type(error).__name__}: {error}") from error
        finally:
            self._busy = False
        if not taken:
            why = "".join(said[:1])
            raise OSError(f"{self._name}: {why or 'it was not delivered, and apprise does not say why'}")


def _load(url: str, *, number: int) -> tuple[Any, Any]:
    try:
        apprise = importlib.import_module("apprise")
    except ImportError:
        raise ConfigurationError(
            "alerts.urls needs apprise: pip install 'mailerd[alerts]', or use alerts.webhook"
        ) from None
    it = apprise.Apprise(asset=_without_pool(apprise))
    if not it.add(url):
        raise ConfigurationError(f"alerts.urls: number {number} is no address that apprise knows")
    return apprise, it


def _without_pool(apprise: Any) -> Any:
    """Settings by which apprise sends in the thread that asks.

    Where it bounds a service by itself (2.3), it does so by a thread of a pool, which Python waits for at its end.
    """
    try:
        return apprise.AppriseAsset(service_timeout=0)
    except (AttributeError, TypeError):  # an older one knows no such bound
        return apprise.AppriseAsset()


def build_notifiers(*, webhook: str, urls: Sequence[str]) -> list[Notifier]:
    """The ways that are configured.

    Raises:
        ConfigurationError: one of them cannot be used.
    """
    ways: list[Notifier] = [Webhook(webhook)] if webhook else []
    return [*ways, *(Apprise(url, number=number) for number, url in enumerate(urls, start=1))]
