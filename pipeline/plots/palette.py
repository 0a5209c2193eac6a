"""Colours of figures, and the roles that colours have on pages."""

BLUE, ORANGE, GREEN, GREY = "#3465a4", "#d9822b", "#4e9a06", "#888888"
# what matplotlib draws on an SVG; a page's variables of these names replace it
INK, QUIET, RULE, ACCENT, SECOND = (f"#0a0b0{number}" for number in range(1, 6))
ROLES = {INK: "ink", QUIET: "quiet", RULE: "rule", ACCENT: "accent", SECOND: "second"}
