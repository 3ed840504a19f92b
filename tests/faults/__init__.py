"""Which surface names which fault, and when: `python -m tests.faults` makes one fault after the other, and prints a table."""
