"""What the next statement needs is made in a thread while the database has the one before."""

import asyncio
from collections.abc import AsyncGenerator, Iterator


async def made_ahead[T](items: Iterator[T]) -> AsyncGenerator[T]:
    """What an iterator makes, in a thread: each item while the caller uses the one before. None ends it.

    A caller may end early; what the thread makes then is dropped.
    """
    loop = asyncio.get_running_loop()
    following = loop.run_in_executor(None, next, items, None)
    while (made := await following) is not None:
        following = loop.run_in_executor(None, next, items, None)
        yield made
