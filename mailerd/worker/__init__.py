"""The worker: claims letters, sends each by Gmail, records the result, and recovers what a crash left behind."""
