"""The command `bertline`: a module a group of commands."""
