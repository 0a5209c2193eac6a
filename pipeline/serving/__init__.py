"""HTTP server of the champion: one process follows the alias, another answers requests."""
