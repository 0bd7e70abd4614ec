"""Prometheus metrics over snapshots, and the HTTP endpoint that serves them."""
