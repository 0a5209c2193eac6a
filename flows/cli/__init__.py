"""The command `bertline`."""
