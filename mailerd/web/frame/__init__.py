"""What every page of the console has: its session, forms, cookies, HTML, and what it works with."""
