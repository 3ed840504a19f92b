"""The queue: claims letters, records outcomes, recovers what crashed daemons left, and keeps the rate limits."""
