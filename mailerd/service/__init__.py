"""Being a service: readiness, the watchdog, the status line, and the stacks of a loop that makes no progress."""
