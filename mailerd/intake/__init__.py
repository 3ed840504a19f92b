"""The HTTP API: accepts jobs, answers 200 only for what is durable, and shows what became of
them.
"""
