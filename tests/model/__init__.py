"""A model of messages, of Google and of people around the real store, and what must be true after every step."""
