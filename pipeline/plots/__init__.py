"""Matplotlib: the project's style, as PNG figures and as SVG for pages."""
