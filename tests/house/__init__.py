"""The house rules and the papers, held by tests that read the sources; no database, no network."""
