"""The suites of drivers and ORMs, run directly and through poolers, compared test by test."""
