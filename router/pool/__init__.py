"""Server connections: their states, sets, checkout, bans and the registry of pools."""
