"""A stand-in for Google, a mailbox that may be read, and a daemon that reads quickly."""

from tests.daemon.conftest import _children, credentials, google, heard, known, served

__all__ = ["_children", "credentials", "google", "heard", "known", "served"]
