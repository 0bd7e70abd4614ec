"""The SQL of PostgreSQL's regression tests and of ORMs: fetched, run on a standby, compared.

Not collected by pytest: `./run corpus`.
"""
