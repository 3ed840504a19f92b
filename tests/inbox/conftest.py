"""A stand-in for Google, a mailbox that may be read, a database, and a daemon that reads quickly."""

from tests.daemon.conftest import credentials, database, google, heard, known, served

__all__ = ["credentials", "database", "google", "heard", "known", "served"]
