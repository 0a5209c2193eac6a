"""Checks of rows, near duplicates and leaks, and the suite that kept rows must meet."""
