"""When the line runs and by whom: Prefect flows, and the `bertline` command."""
