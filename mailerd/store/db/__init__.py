"""The database itself: connections, transactions, errors and migrations."""
