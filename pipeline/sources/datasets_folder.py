"""Folders of tables: shards of one table, and what `datasets.save_to_disk` wrote.

The rows have a column `split`, unless they have one of their own: the name of the split that a
folder or the name of a file says.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pipeline.core.errors import UserError
from pipeline.sources.rows import Reject, Row, checked, readable, require
from pipeline.sources.tables import class_names, named

Rows = Iterator[Row | Reject]
SPLIT = "split"
SPLITS = {  # words in the name of a file or folder, and their split
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
BATCH = 1000  # rows


def is_saved(folder: Path) -> bool:
    """True for what `datasets.save_to_disk` wrote."""
    return any((folder / name).is_file() for name in ("dataset_dict.json", "state.json"))


def read_saved(folder: Path, shown: str, columns: tuple[str, ...]) -> Rows:
    """Yield the rows of a saved Dataset or DatasetDict; numbers of ClassLabel become names.

    Raises UserError for a damaged folder.
    """
    if (folder / "state.json").is_file():
        yield from _read_dataset(folder, shown, columns, "")
        return
    for name in _loaded(folder / "dataset_dict.json", "splits", shown):
        yield from _read_dataset(folder / str(name), f"{shown}/{name}", columns, str(name))


def _read_dataset(folder: Path, shown: str, columns: tuple[str, ...], split: str) -> Rows:
    import pyarrow as pa

    number = 0
    for each in _loaded(folder / "state.json", "_data_files", shown):
        name = Path(str(each.get("filename") if isinstance(each, dict) else each)).name
        try:
            with pa.memory_map(str(folder / name)) as file, pa.ipc.open_stream(file) as stream:
                classes = class_names(stream.schema)
                virtual = (SPLIT,) if split and SPLIT not in stream.schema.names else ()
                present = (*stream.schema.names, *virtual)
                require(columns, present, f"{shown}: row 1", "its columns are")
                for batch in stream:
                    for start in range(0, batch.num_rows, BATCH):
                        for fields in batch.slice(start, BATCH).to_pylist():
                            number += 1
                            own = named(fields, classes) | dict.fromkeys(virtual, split)
                            yield checked(shown, number, own)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(f"{shown}/{name}: cannot be read ({reason}): save it again") from None


def _loaded(path: Path, key: str, shown: str) -> list[Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))[key]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(
            f"{shown}: {path.name} cannot be read ({error}): save the data set again"
        ) from None
    if not isinstance(found, list):
        raise UserError(f"{shown}: {path.name} has no list {key!r}: save the data set again")
    return found


def shards(folder: Path, extensions: tuple[str, ...]) -> list[Path]:
    """Return the tables in a folder, also in its subfolders, in the order of their names."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not any(part.startswith((".", "_")) for part in path.relative_to(folder).parts)
        and any(suffix.lower() in extensions for suffix in path.suffixes[-2:])
        and path.name not in ("dataset_infos.json", "dataset_info.json", "dataset_dict.json")
    ]


def read_shards(
    folder: Path,
    files: list[Path],
    columns: tuple[str, ...],
    read: Callable[[Path, tuple[str, ...]], Rows],
) -> Rows:
    """Yield the rows of tables that are parts of one; `read` reads one of them.

    Raises UserError for a missing column.
    """
    for file in files:
        split = split_of(file.relative_to(folder))
        wanted = tuple(name for name in columns if name != SPLIT) if split else columns
        for row in read(file, wanted):
            if split and isinstance(row, Row):
                fields = {SPLIT: split} | dict(row.fields)
                yield Row(readable(file.name), row.number, fields)
            else:
                yield row


def split_of(path: Path) -> str:
    """Return the split that the name of a file or of its folders says; "" for none."""
    words = re.split(r"[^a-z]+", path.as_posix().lower())
    return next((SPLITS[word] for word in words if word in SPLITS), "")
