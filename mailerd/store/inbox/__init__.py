"""Queries of the inbox reader: whose turn a mailbox is, what was found in it, and what follows from
that.
"""
