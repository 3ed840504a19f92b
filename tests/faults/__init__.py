"""Which surface names which fault, and when: `python -m tests.faults` makes them, one after the other."""
