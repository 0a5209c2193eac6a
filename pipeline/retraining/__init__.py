"""Whether a recipe is worth training again, from facts alone."""
