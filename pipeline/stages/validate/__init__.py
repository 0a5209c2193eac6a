"""Checks of rows, search for near duplicates, and the suite that kept rows must meet."""
