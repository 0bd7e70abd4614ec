"""A sharding, load-balancing, pooling query router for PostgreSQL."""

__version__ = "0.1.0"
