"""Stages of the pipeline, a folder each with its function in stage.py; they exchange files only."""
