"""The wire protocol, from framing to authentication."""
