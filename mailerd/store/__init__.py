"""The door to the database: every line of SQL is in this package, and only it imports the driver."""
