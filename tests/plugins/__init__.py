"""Tests of the plugins that look at statements."""
