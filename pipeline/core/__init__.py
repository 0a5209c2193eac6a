"""Shared base of all packages: the recipe parser, records, errors, files, log and paths."""
