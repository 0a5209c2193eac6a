"""Scores, their intervals and tests, and the names that people read them by."""
