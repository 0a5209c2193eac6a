"""The commands, a module a panel of `bertline --help`: what each is asked, and who does it."""
