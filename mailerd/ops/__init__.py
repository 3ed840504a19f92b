"""Running mailerd as a service: the log, metrics, systemd, the watchdog and alerts."""
