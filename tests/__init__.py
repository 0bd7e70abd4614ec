"""The tests, a package per layer of the router."""
