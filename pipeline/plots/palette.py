"""Colours of PNG figures, and colours of SVG figures with the CSS variables that replace them."""

BLUE, ORANGE, GREEN, GREY = "#3465a4", "#d9822b", "#4e9a06", "#888888"
# Matplotlib draws SVG figures with these; CSS variables of the names in ROLES replace them
INK, QUIET, RULE, ACCENT, SECOND = (f"#0a0b0{number}" for number in range(1, 6))
ROLES = {INK: "ink", QUIET: "quiet", RULE: "rule", ACCENT: "accent", SECOND: "second"}
