"""Embeddings: taken out of an encoder, kept in a file, and searched."""
