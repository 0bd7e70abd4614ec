"""Tests of sessions over a fake wire, against model servers."""
