"""Tests of router.routing."""
