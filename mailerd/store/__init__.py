"""All SQL is in this package, and only this package imports the database driver."""
