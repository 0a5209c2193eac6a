"""Sample of the rows of a file: its first rows, and others drawn from all of it."""

import random
from collections.abc import Iterable
from dataclasses import dataclass, field

from pipeline.core.log import Log, no_log
from pipeline.sources import Reject, Row

ROWS, FIRST = 20_000, 2000  # rows of a sample; the first ones of the file
CELLS, CHARACTERS = 2_000_000, 50_000_000  # most of both in a sample
TOLD = 200_000  # rows after which the progress is told


@dataclass
class Sample:
    """Rows of a file in their order, and how many it has."""

    rows: list[Row] = field(default_factory=list)
    read: int = 0
    """All rows that can be read."""
    rejects: int = 0
    """Rows that cannot be read."""
    quotes: int = 0
    """Number of rejects whose quotes are at fault."""
    first_reject: Reject | None = None


def sampled(rows: Iterable[Row | Reject], log: Log = no_log) -> Sample:
    """Return the first rows and a sample of the further ones, by reservoir sampling (Vitter 1985).

    A sample holds at most ROWS rows, CELLS cells and about CHARACTERS characters.
    """
    found, draw = Sample(), random.Random(0)
    kept: list[tuple[int, Row]] = []
    most, first, characters = ROWS, FIRST, 0
    for row in rows:
        if isinstance(row, Reject):
            found.rejects += 1
            found.quotes += "quote" in row.reason
            found.first_reject = found.first_reject or row
            continue
        found.read += 1
        if found.read % TOLD == 0:
            log.info(f"{found.read:,} rows looked at")
        if len(kept) < most:
            kept.append((found.read, row))
            characters += sum(map(len, row.fields.values()))
            if characters > CHARACTERS or len(kept) * len(row.fields) > CELLS:
                most, first = len(kept), min(FIRST, len(kept) // 2)
        elif (place := draw.randrange(first, found.read)) < most:
            kept[place] = (found.read, row)
    kept.sort(key=lambda each: each[0])
    found.rows = [row for _, row in kept]
    return found
