"""All SQL is in this package, and only this package imports the database driver.

Every call may raise DatabaseError; a docstring names it where a caller has to know what then holds.
"""
