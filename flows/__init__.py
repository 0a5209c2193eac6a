"""Prefect flows that schedule the pipeline, and the `bertline` command."""
