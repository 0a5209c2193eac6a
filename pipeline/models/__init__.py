"""PyTorch models: base encoders and the heads on them."""
