"""Letters: templates, rendered in a child process, and the bytes of a message."""
