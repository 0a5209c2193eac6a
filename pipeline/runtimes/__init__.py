"""Runtimes that run a trained model, one a file."""
