"""The compiled build does what the plain files do."""
