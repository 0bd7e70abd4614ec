"""Tests of pools over a fake wire."""
