"""One client: login, the session state machine, cancel."""
