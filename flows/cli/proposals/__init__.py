"""Proposals of `bertline new`, which looks at a file and writes a recipe for it."""
