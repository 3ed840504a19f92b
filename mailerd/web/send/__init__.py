"""A new message, step by step, until it is a job."""
