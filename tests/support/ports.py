"""Ports that a test names before somebody listens there, or while nobody does."""

import random
import socket
from contextlib import suppress
from typing import Final

_OURS: Final = range(10_000, 30_000)
"""Below those that the kernel gives to whoever asks for any, so that no other test is given one of them meanwhile."""
_given: Final = set[int]()
"""Nobody listens on a port of these yet, perhaps: a daemon with two ports was once given the same one twice."""


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens, and that was not given before."""
    while True:
        port = random.SystemRandom().choice(_OURS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in _given:
                _given.add(port)
                return port
