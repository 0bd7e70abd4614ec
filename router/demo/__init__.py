"""The demo: embedded PostgreSQL shards, the router in front and a tour."""
