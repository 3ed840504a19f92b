"""The pure core: states, replies, verdicts, decisions. No await, no clock, no chance, no third-party import."""
