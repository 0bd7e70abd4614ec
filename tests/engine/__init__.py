"""Tests of the engine over real sockets."""
