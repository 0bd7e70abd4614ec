"""Clusters of real servers that tests stop, kill, silence and promote; see `cluster`."""
