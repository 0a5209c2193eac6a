"""Commands and their arguments; one module for each panel of `bertline --help`."""
