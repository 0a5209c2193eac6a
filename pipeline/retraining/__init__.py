"""Decide if a recipe is worth training again."""
