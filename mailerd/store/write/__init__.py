"""What writes: a table is written by one file, which reads what it needs for that."""
