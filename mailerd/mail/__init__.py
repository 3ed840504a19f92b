"""Messages: templates, rendered in a child process, and their bytes."""
