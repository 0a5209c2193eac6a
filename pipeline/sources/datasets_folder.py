"""Folders of tables: shards of one table, and what `datasets.save_to_disk` wrote.

The rows have a column `split`, unless they have one of their own: the name of the split that a
folder or the name of a file says.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core.errors import UserError
from pipeline.sources.rows import Reject, Row, readable
from pipeline.sources.tables import class_names, parquet_columns, require_once, rows_of

if TYPE_CHECKING:
    import pyarrow as pa

Rows = Iterator[Row | Reject]
SPLIT = "split"
SPLITS = {  # words in the name of a file or folder, and their split
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
PARQUET = ".parquet"
STATE = "state.json"
NOTES = ("dataset_infos.json", "dataset_info.json", "dataset_dict.json", STATE)
BATCH = 1000  # rows
END = b"\xff\xff\xff\xff\0\0\0\0"  # of an Arrow stream


def is_saved(folder: Path) -> bool:
    """True for what `datasets.save_to_disk` wrote, also if its list of splits is missing."""
    own = any((folder / name).is_file() for name in ("dataset_dict.json", STATE))
    return own or any(path.is_file() for path in folder.glob(f"*/{STATE}"))


def read_saved(folder: Path, shown: str, columns: tuple[str, ...]) -> Rows:
    """Yield the rows of a saved Dataset or DatasetDict; numbers of ClassLabel become names. The
    number of a row is its position in its split, from 1.

    Raises UserError for a damaged folder.
    """
    if (folder / STATE).is_file():
        yield from _read_dataset(folder, shown, columns, "")
        return
    for name in _loaded(folder / "dataset_dict.json", "splits", shown):
        if not isinstance(name, str) or Path(name).name != name:
            raise UserError(f"{shown}: dataset_dict.json names the split {name!r}: save it again")
        yield from _read_dataset(folder / name, shown, columns, name)


def _read_dataset(folder: Path, shown: str, columns: tuple[str, ...], split: str) -> Rows:
    """Yield the rows of one split; "" for a Dataset, which is none."""
    import pyarrow as pa

    where = f"{shown}/{split}" if split else shown
    number = 0
    for each in _loaded(folder / STATE, "_data_files", where):
        name = Path(str(each.get("filename") if isinstance(each, dict) else each)).name
        try:
            with pa.memory_map(str(folder / name)) as file, pa.ipc.open_stream(file) as stream:
                classes, names = class_names(stream.schema), stream.schema.names
                virtual = (SPLIT,) if split and SPLIT not in names else ()
                require_once(columns, stream.schema, where, virtual)
                for batch in stream:
                    used = batch.select([c for c in columns if c in names]) if columns else batch
                    _validate(used)
                    for start in range(0, used.num_rows, BATCH):
                        part = used.slice(start, BATCH)
                        for row in rows_of(part, split or shown, number, classes):
                            yield _in_split(row, split)
                        number += part.num_rows
                _check_end(file)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise UserError(f"{where}/{name}: {_reason(error)}: save the data set again") from None


def _validate(batch: "pa.RecordBatch") -> None:
    """Raise ArrowInvalid for positions outside of the data, which would end the process. In a
    column of texts, one that is not UTF-8 costs its row alone; it is found after wrong positions.
    """
    import pyarrow as pa

    for column in batch.columns:
        try:
            column.validate(full=True)
        except pa.ArrowInvalid as error:
            texts = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
            if not texts or "UTF8" not in str(error):
                raise


def _check_end(file: "pa.MemoryMappedFile") -> None:
    """Raise ValueError for a file that was cut between two batches, which else goes unseen, and for
    one with more behind its end."""
    whole = file.tell() == file.size()
    file.seek(max(0, file.size() - len(END)))
    if not whole or file.read() != END:
        raise ValueError("its end is not where it should be")


def _in_split(row: Row | Reject, split: str) -> Row | Reject:
    """Return a row with the column `split`, unless it has one of its own."""
    if not split or isinstance(row, Reject):
        return row
    return replace(row, fields={SPLIT: split} | dict(row.fields))


def _loaded(path: Path, key: str, shown: str) -> list[Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))[key]
    except (OSError, ValueError, LookupError, TypeError) as error:
        problem = f"{path.name}: {_reason(error)}"
        raise UserError(f"{shown}: {problem}: save the data set again") from None
    if not isinstance(found, list):
        raise UserError(f"{shown}: {path.name} has no list {key!r}: save the data set again")
    return found


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "is missing"
    return f"cannot be read ({(str(error).splitlines() or [type(error).__name__])[0]})"


def shards(folder: Path, extensions: tuple[str, ...]) -> list[Path]:
    """Return the tables in a folder, also in its subfolders, in the order of their names, without
    empty ones. Tables beside folders of text files are none of these: a list, or notes."""
    found = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not any(part.startswith((".", "_")) for part in path.relative_to(folder).parts)
        and any(suffix.lower() in extensions for suffix in path.suffixes[-2:])
        and path.name not in NOTES
    ]
    if all(path.parent == folder for path in found) and any(folder.glob("*/*.txt")):
        return []
    return [path for path in found if path.stat().st_size] or found


def read_shards(
    folder: Path,
    files: list[Path],
    columns: tuple[str, ...],
    read: Callable[[Path, tuple[str, ...]], Rows],
) -> Rows:
    """Yield the rows of tables that are parts of one; `read` reads one of them. Their file is its
    path inside of the folder.

    Raises UserError for a missing column.
    """
    for file in files:
        inside = file.relative_to(folder)
        split = split_of(inside)
        own = not split or (file.suffix.lower() == PARQUET and SPLIT in parquet_columns(file))
        wanted = columns if own else tuple(name for name in columns if name != SPLIT)
        for row in read(file, wanted):
            yield replace(_in_split(row, split), file=readable(inside.as_posix()))


def split_of(path: Path) -> str:
    """Return the split that the name of a file or of its folders says; "" for none."""
    words = re.split(r"[^a-z]+", path.as_posix().lower())
    return next((SPLITS[word] for word in words if word in SPLITS), "")
