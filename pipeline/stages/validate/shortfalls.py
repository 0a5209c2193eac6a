"""Sentences on what is missing in the kept rows."""


def rows(left: int, least: int) -> str:
    """Return the sentence on too few rows in all."""
    verb = "row is" if left == 1 else "rows are"
    return f"{left:,} {verb} left, but max_quarantine_percent needs at least {least:,}"


def labels(found: int) -> str:
    """Return the sentence on rows that all have one label, or none."""
    kind = "label" if found == 1 else "labels"
    return f"only {found} {kind} in all rows: there is nothing to tell apart"


def split(name: str, found: int, least: int) -> str:
    """Return the sentence on a split with too few rows."""
    kind = "row" if found == 1 else "rows"
    return f"{found:,} {name} {kind} of at least {least:,} (min_rows)"
