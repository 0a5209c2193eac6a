"""Sentences on what is missing in the kept rows."""


def rows(left: int, least: int, of: int) -> str:
    """Return the sentence on too few rows in all; `of` is their number before."""
    verb = "row is" if left == 1 else "rows are"
    return (
        f"{left:,} {verb} left of at least {least:,}: {percent(of - left, of)} of all rows, more"
        " than validate.max_quarantine_percent, are set aside"
    )


def labels(found: int) -> str:
    """Return the sentence on rows that all have one label, or none."""
    kind = "label" if found == 1 else "labels"
    return f"only {found} {kind} in all rows: there is nothing to tell apart"


def split(name: str, found: int, least: int) -> str:
    """Return the sentence on a split with too few rows."""
    kind = "row" if found == 1 else "rows"
    return f"{found:,} {name} {kind} of at least {least:,} (min_rows)"


def percent(rows: int, of: int) -> str:
    """Return a share of rows in percent, such as 0.01 %."""
    return f"{100 * rows / of:.3g} %"
