"""Real drivers and programs, through the router, to real PostgreSQL."""
