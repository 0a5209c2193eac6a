"""True if a recipe is worth training again, from facts alone."""
