"""Waiting for what only the database or the operating system can say; what mailerd says is waited for in Heard."""

import asyncio
from collections.abc import Awaitable, Callable

from tests.support.heard import PATIENCE


async def eventually(holds: Callable[[], Awaitable[bool]], *, within: float = PATIENCE) -> None:
    """Until it holds; looks every few milliseconds.

    Raises:
        TimeoutError: it never did.
    """
    async with asyncio.timeout(within):
        while not await holds():  # noqa: ASYNC110 - nobody sends a signal that could be waited for
            await asyncio.sleep(0.005)
