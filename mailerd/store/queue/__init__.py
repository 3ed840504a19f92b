"""The queue: claims messages, records outcomes, recovers what crashed daemons left, and keeps the
rate limits.
"""
