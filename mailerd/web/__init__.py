"""The console: pages that people look at in a browser, and forms that do what the API does."""
