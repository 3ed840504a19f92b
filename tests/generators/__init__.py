"""Three generators of clients make theirs of openapi.json, and each posts a job to a real daemon; needs a network."""
