"""Alarms without Prometheus: a message when something needs a person, and another when it is over."""
