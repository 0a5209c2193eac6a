"""PyTorch models: where a base comes from, its encoder, and the heads that are put on it."""
