"""Programs on shards behind the router, and on one plain PostgreSQL: they do the same.

`python -m tests.truth` runs any number of them; `test_truth.py` runs some.
"""
