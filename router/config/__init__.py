"""Configuration: the text of pgcat.toml to frozen values."""
