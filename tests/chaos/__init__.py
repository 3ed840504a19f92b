"""The chaos suite: real processes, real signals, a bad network and a bad Google, and a truth taken from outside."""
