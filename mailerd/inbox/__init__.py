"""Reads the inboxes of senders for what became of their messages; it never deletes, labels or marks
anything.
"""
