"""The stages of the line, a folder each, whose function is in stage.py; they meet through files."""
