"""Reads the inboxes of senders for what became of their letters; it never deletes, labels or marks anything."""
