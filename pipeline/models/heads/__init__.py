"""Heads of PyTorch models, a file each."""
