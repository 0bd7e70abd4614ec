"""Tests of the admin database."""
