"""Sends alarms: JSON to a web hook, or through apprise to whatever it knows; nothing of it may hold up the sending."""

import asyncio
import importlib
from collections.abc import Sequence
from typing import Any, Final, Protocol

import aiohttp

from mailerd.alerts.board import Message
from mailerd.errors import ConfigurationError

WITHIN: Final = 15.0
"""Seconds that an alarm gets to be sent."""
_REFUSAL: Final = 300


class Post(Protocol):
    """A way to people."""

    async def send(self, message: Message) -> None:
        """Send it.

        Raises:
            OSError: it was not taken.
            TimeoutError: nobody knows.
        """


class Webhook:
    """`{"source", "subject", "text", "lines", "firing"}` as a POST; anything but a 2xx is a failure."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def send(self, message: Message) -> None:
        """Send it."""
        body = {
            "source": "mailerd",
            "subject": message.subject,
            "text": message.text,
            "lines": list(message.lines),
            "firing": list(message.firing),
        }
        timeout = aiohttp.ClientTimeout(total=WITHIN)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.post(self._url, json=body, allow_redirects=False) as answer,
            ):
                if answer.status >= _REFUSAL:
                    raise OSError(f"the web hook answered {answer.status}")
        except aiohttp.ClientError as error:
            raise OSError(f"the web hook cannot be reached: {type(error).__name__}") from error


class Apprise:
    """Everything that apprise knows: Slack, e-mail, Feishu, DingTalk, WeCom, Telegram …; blocking, so in a thread."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._it = _load(urls)

    async def send(self, message: Message) -> None:
        """Send it."""
        async with asyncio.timeout(WITHIN):
            taken = await asyncio.to_thread(self._it.notify, title=message.subject, body=message.text)
        if not taken:
            raise OSError("apprise could not deliver to one of alerts.urls")


def _load(urls: Sequence[str]) -> Any:
    try:
        apprise = importlib.import_module("apprise")
    except ImportError:
        raise ConfigurationError(
            "alerts.urls needs apprise: pip install 'mailerd[alerts]', or use alerts.webhook"
        ) from None
    it = apprise.Apprise()
    for number, url in enumerate(urls, start=1):
        if not it.add(url):  # the address itself may hold a token
            raise ConfigurationError(f"alerts.urls: number {number} is no address that apprise knows")
    return it


def posts(*, webhook: str, urls: Sequence[str]) -> list[Post]:
    """The ways that are configured.

    Raises:
        ConfigurationError: one of them cannot be used.
    """
    return [*([Webhook(webhook)] if webhook else []), *([Apprise(urls)] if urls else [])]
