"""Sending: claims letters, takes each along its path, and records what became of it."""
