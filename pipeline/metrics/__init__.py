"""Scores, their intervals and tests, and display names of metrics."""
