"""Training of the base encoder on the labels."""
