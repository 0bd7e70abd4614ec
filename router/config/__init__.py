"""The configuration: text to frozen values, and what a reload changes."""
