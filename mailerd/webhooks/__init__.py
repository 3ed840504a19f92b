"""Delivers events to the endpoints of applications, and deletes events by age."""
