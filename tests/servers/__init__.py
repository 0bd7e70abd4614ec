"""Servers that fail in every way, behind a router: who notices, and how soon."""
