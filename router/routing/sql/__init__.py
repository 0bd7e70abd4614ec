"""The only place that knows sqlglot: syntax trees of statements, and what is read from them."""
