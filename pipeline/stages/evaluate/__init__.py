"""Evaluation of the trained model: scores, baselines and behaviour tests."""
