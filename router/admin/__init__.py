"""The virtual admin database."""
