"""`/docs`: the documents of this version as a site, and the reference of its API."""
