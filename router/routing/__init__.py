"""Where a statement goes: pure decisions over SQL text and per-client settings."""
