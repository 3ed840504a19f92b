"""The measures of `make bench`: real processes side by side on this machine; nothing here is part of the test suite."""
