"""The worker: claims messages, sends each by Gmail, records the result, and recovers what a crash
left behind.
"""
