"""The champion answers over HTTP: one process follows the alias, another answers by its version."""
