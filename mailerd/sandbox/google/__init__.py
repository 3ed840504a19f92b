"""A stand-in for Google on loopback: OAuth, Gmail, quotas and faults on demand, as strict as the
real thing.

`Google` is the state, `Rules` its limits, `Fault` what goes wrong, and `serve` puts it on the
network.
"""

from mailerd.sandbox.google.fake_google import Entry, FakeGoogle
from mailerd.sandbox.google.fake_limits import (
    COMPOSE,
    FULL,
    METADATA,
    MODIFY,
    READONLY,
    SEND,
    SETTINGS,
    FakeLimits,
)
from mailerd.sandbox.google.faults import KINDS, Fault
from mailerd.sandbox.google.mailbox import KEY_HEADER, Message
from mailerd.sandbox.google.server import RunningServer, serve

__all__ = [
    "COMPOSE",
    "FULL",
    "KEY_HEADER",
    "KINDS",
    "METADATA",
    "MODIFY",
    "READONLY",
    "SEND",
    "SETTINGS",
    "Entry",
    "FakeGoogle",
    "FakeLimits",
    "Fault",
    "Message",
    "RunningServer",
    "serve",
]
