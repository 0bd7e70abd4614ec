"""The router measured beside a direct connection and PgBouncer, in one run."""
