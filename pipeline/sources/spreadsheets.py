"""Reader of spreadsheets: the first sheet with cells of an Excel or OpenDocument file."""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.core.errors import UserError
from pipeline.sources.rows import PLAIN, Layout, Reject, Row, checked, require
from pipeline.sources.unpack import MOST, SMALL

EXTENSIONS = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")


def read_spreadsheet(
    path: Path, shown: str, columns: tuple[str, ...], layout: Layout = PLAIN
) -> Iterator[Row | Reject]:
    """Yield the rows below the header line, with the row numbers of the sheet; blank rows are
    skipped. Whole numbers lose their decimal point. The sheet is held in memory.

    Raises UserError for a damaged file and for one whose sheets unpack to more than is sane.
    """
    from python_calamine import CalamineWorkbook

    try:
        _check_size(path, shown)
        workbook = CalamineWorkbook.from_path(str(path))
        sheets = map(workbook.get_sheet_by_name, workbook.sheet_names)
        sheet = next((sheet for sheet in sheets if sheet.height), None)
    except UserError:
        raise
    except Exception as error:  # of many unrelated classes
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{shown}: cannot be read ({reason}): save it again, or as CSV") from None
    if sheet is None:
        raise UserError(f"{shown}: has no cells: give a file with rows")
    rows = enumerate(sheet.iter_rows(), (sheet.start or (0, 0))[0] + 1)
    if layout.header:
        names = list(layout.header)
    else:
        _, first = next(rows)
        names = [_plain(cell) for cell in first]
        while names and not names[-1]:
            names.pop()
    where = f"{shown}: ingest.header" if layout.header else f"{shown}: row 1"
    require(columns, tuple(name for name in names if name), where, "its header names")
    for column in columns:
        if names.count(column) > 1:
            raise UserError(f"{where}: the column {column!r} is named twice: rename one")
    for number, cells in rows:
        values = [_plain(cell) for cell in cells]
        if not any(values):
            continue
        if any(values[len(names) :]):
            reason = f"has {len(values)} fields where the header has {len(names)}"
            yield Reject(shown, number, reason)
        else:
            missing = [""] * (len(names) - len(values))
            fields = dict(zip(names, values[: len(names)] + missing, strict=True))
            yield checked(shown, number, fields)


def _check_size(path: Path, shown: str) -> None:
    """Raise UserError for a zip file that unpacks to more than MOST times its size."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    if size > max(SMALL, MOST * path.stat().st_size):
        raise UserError(
            f"{shown}: unpacks to {size / 1e6:,.0f} MB, more than {MOST} times its size: save it"
            " as CSV if that is right"
        )


def _plain(cell: Any) -> str:
    """Return a cell as text; 3.0 becomes 3."""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return "" if cell is None else str(cell).strip("\r\n")
