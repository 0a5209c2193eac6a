"""What runs a trained model, a file a runtime."""
