"""Reader of parallel texts: one file of lines for each language."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from pipeline.core.errors import UserError
from pipeline.sources.encodings import as_utf8
from pipeline.sources.rows import PLAIN, Layout, Reject, Row, read_lines, require


def read_parallel(
    path: Path, shown: str, columns: tuple[str, ...], layout: Layout = PLAIN
) -> Iterator[Row | Reject]:
    """Yield a row for each line number: that line of `train.en`, of `train.fr` and of every other
    file of that stem, with the suffixes as column names. A line that cannot be read in one file is
    a `Reject`. Lines that are blank in all files are skipped.

    Raises UserError if the files have different numbers of lines.
    """
    files = siblings(path)
    require(columns, tuple(files), shown, f"files called {path.stem} have the suffixes")
    with ExitStack() as stack:
        for name in columns:
            where = str(path.with_name(files[name].name))
            utf8 = as_utf8(files[name], where, layout.encoding)
            files[name] = stack.enter_context(utf8)
        yield from _read(path, shown, columns, files)


def _read(
    path: Path, shown: str, columns: tuple[str, ...], files: dict[str, Path]
) -> Iterator[Row | Reject]:
    counts = {name: sum(1 for _ in read_lines(files[name], shown)) for name in columns}
    if len(set(counts.values())) > 1:
        sizes = ", ".join(f"{files[name].name} has {count:,}" for name, count in counts.items())
        raise UserError(f"{shown}: {sizes} lines: line N of every file must be the same text")
    opened = [read_lines(files[name], str(path.with_name(files[name].name))) for name in columns]
    for lines in zip(*opened, strict=True):
        number = lines[0][0]
        texts = [line for _, line in lines]
        if fault := next((text for text in texts if isinstance(text, Reject)), None):
            yield fault
        elif any(str(text).strip() for text in texts):
            yield Row(shown, number, dict(zip(columns, map(str, texts), strict=True)))


def siblings(path: Path) -> dict[str, Path]:
    """Return the files of the same stem in its folder, by suffix."""
    return {
        file.suffix.removeprefix("."): file
        for file in sorted(path.parent.iterdir())
        if file.is_file() and file.stem == path.stem
    }
