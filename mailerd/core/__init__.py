"""The pure core: states, replies, verdicts, decisions.

No await, no clock, no randomness, no third-party import.
"""
