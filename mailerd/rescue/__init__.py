"""Rescuing: what died hands left behind is found, looked up at Google where it may have been sent, and settled."""
