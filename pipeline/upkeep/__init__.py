"""Upkeep of what the pipeline stores: check it, delete what is unused, and remove rows."""
