"""Embeddings: extraction from an encoder, files of them, and search."""
