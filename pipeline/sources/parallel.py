"""Files of lines that belong together: the same texts in several languages, a file each."""

from collections.abc import Iterator
from pathlib import Path

from pipeline.core.errors import UserError
from pipeline.sources.rows import Reject, Row, read_lines, require


def read_parallel(path: Path, shown: str, columns: tuple[str, ...]) -> Iterator[Row | Reject]:
    """A line of `train.en` with the same line of `train.fr`, and of whatever else has that name:
    columns are the suffixes. A line that cannot be read in one of them is a `Reject`; lines that
    are blank in all are no rows.

    Raises UserError where the files have different numbers of lines.
    """
    files = siblings(path)
    require(columns, tuple(files), shown, f"files called {path.stem} have the suffixes")
    counts = {name: sum(1 for _ in read_lines(files[name], shown)) for name in columns}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{files[name].name} has {count:,}" for name, count in counts.items())
        raise UserError(f"{shown}: {told} lines: each line of one must be that of the other")
    opened = [read_lines(files[name], str(path.with_name(files[name].name))) for name in columns]
    for lines in zip(*opened, strict=True):
        number = lines[0][0]
        texts = [line for _, line in lines]
        if fault := next((text for text in texts if isinstance(text, Reject)), None):
            yield fault
        elif any(str(text).strip() for text in texts):
            yield Row(shown, number, dict(zip(columns, map(str, texts), strict=True)))


def siblings(path: Path) -> dict[str, Path]:
    """The files that have its name, by their suffixes."""
    return {
        file.suffix.removeprefix("."): file
        for file in sorted(path.parent.iterdir())
        if file.is_file() and file.stem == path.stem
    }
