"""What several tests use: a recording of events, and jobs put into the database as the intake does."""
