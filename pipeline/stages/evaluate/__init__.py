"""Scores of the trained model, beside baselines and by behaviour tests."""
