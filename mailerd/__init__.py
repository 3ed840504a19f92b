"""mailerd: a mail daemon for your own Gmail and Google Workspace mailboxes."""

__version__ = "0.1.0"
