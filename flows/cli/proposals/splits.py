"""Splits of a file of rows: a column, or files side by side; files of splits in a folder."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path

from flows.cli.proposals import columns as roles
from flows.cli.proposals.columns import Column
from flows.cli.proposals.labels import NAMES
from flows.cli.proposals.values import Proposal, watchable
from pipeline.core.errors import UserError
from pipeline.core.text import excerpt
from pipeline.sources import JSON, LAID_OUT, READERS, TABLES, Layout, Row, read_rows
from pipeline.sources.datasets_folder import is_saved, shards
from pipeline.sources.unpack import COMPRESSED
from pipeline.stages.ingest.stage import SPLIT_NAMES

SHARDS = (*TABLES, *JSON, ".parquet")
FEW = 200  # rows of the files of other splits
TRAIN = ("train", "training")
OTHERS = {
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}


def training_file(folder: Path, found: Proposal) -> str | None:
    """Return the training file of a folder with a file for each split; None for other folders.

    Text files count only if all are of a split, since a folder may hold one for each label. Raises
    UserError for several training files.
    """
    if is_saved(folder) or found.ingest.get("format") in ("lines", "documents"):
        return None
    inner = folder / "train"
    if inner.is_dir() and any(inner.iterdir()) and not shards(folder, SHARDS):
        found.because("folder", f"{inner.name} holds the training rows")
        found.ingest["source"] = str(inner)
        return str(inner)
    files = [path for path in sorted(folder.iterdir()) if path.is_file()]
    train = [path for path in files if _stem(path) in TRAIN]
    if not train:
        return None
    own, *others = train
    parallel = all(_suffix(path) not in (*READERS, *LAID_OUT) for path in train)
    if others and not parallel:
        names = ", ".join(path.name for path in train)
        raise UserError(f"{folder}: which one holds the training rows? name the file: {names}")
    alike = [path for path in files if _suffix(path) == _suffix(own)]
    if _suffix(own) == ".txt" and not all(_split_of(path) for path in alike):
        return None
    rest = [path for path in files if not path.name.startswith(".") and path not in train]
    rest = [path for path in rest if not (_split_of(path) and (parallel or path in alike))]
    rest = [path for path in rest if path.name not in NAMES]
    found.because("folder", f"{own.name} holds the training rows")
    if rest:
        named = excerpt(", ".join(path.name for path in rest), 80)
        found.because("", f"other files are left out: {named}")
    found.ingest["source"] = str(own)
    return str(own)


def _stem(path: Path) -> str:
    return path.name.split(".")[0].lower()


def _suffix(path: Path) -> str:
    """Return the suffix of a file that says how it is read."""
    suffixes = [each.lower() for each in path.suffixes]
    return next((each for each in reversed(suffixes) if each not in COMPRESSED), "")


def _split_of(path: Path) -> str | None:
    """Return the split that the name of a file begins with."""
    names = {"train": TRAIN, **OTHERS}
    for split, words in names.items():
        for word in words:
            if _stem(path) == word or _stem(path).startswith((f"{word}_", f"{word}-")):
                return split
    return None


def find_split(file: str, found: Proposal, table: Mapping[str, Column]) -> None:
    """Find the column or the files that split the rows."""
    if found.ingest.get("split"):
        return
    if (column := roles.find_split(table)) and column.name != found.ingest.get("label"):
        values = {SPLIT_NAMES[value.lower()] for value in column.counts}
        found.ingest["split"] = column.name
        shown = ", ".join(sorted(column.counts))
        found.because("split", f"{column.name!r}: its values are {shown}")
        if missing := [split for split in OTHERS if split not in values]:
            found.because("", f"{' and '.join(missing)} rows are drawn from the training rows")
        return
    _find_files(file, found)


def _find_files(file: str, found: Proposal) -> None:
    """Find the files or folders of other splits beside the training rows."""
    path = Path(file)
    if not path.exists() or _split_of(path) != "train":
        return
    source = {"train": file, **{split: str(other) for split, other in _beside(path)}}
    if len(source) > 1 and not watchable(path.parent):
        names = ", ".join(Path(each).name for each in source.values() if each != file)
        found.because("split", f"{names} beside it: left out, for DVC cannot watch this folder:")
        found.because("", "move all into one of their own, such as data/raw/NAME, to take it")
    elif len(source) > 1:
        found.ingest["source"] = source
        names = ", ".join(Path(each).name for each in source.values())
        found.because("split", f"{names}: a file each")


def _beside(path: Path) -> Iterator[tuple[str, Path]]:
    """Yield the splits with a file like the training file `path`, and these files."""
    word = max((word for word in TRAIN if _stem(path).startswith(word)), key=len)
    rest = path.name[len(word) :]
    for split, names in OTHERS.items():
        exact = [path.with_name(f"{name}{rest}") for name in names]
        if other := next((each for each in exact if each.exists()), None):
            yield split, other
        elif path.is_file() and _stem(path) == word:  # such as test_2016.csv beside train.csv
            files = [each for each in path.parent.iterdir() if each.is_file()]
            alike = [each for each in files if each.suffixes[-2:] == path.suffixes[-2:]]
            others = [each for each in alike if _split_of(each) == split]
            if len(others) == 1:
                yield split, others[0]


def check_split_files(found: Proposal, table: Mapping[str, Column], layout: Layout) -> None:
    """Leave out the files of other splits whose rows are not like those of the training file."""
    source, label = found.ingest.get("source"), found.ingest.get("label")
    if not isinstance(source, dict):
        return
    layout = replace(layout, quotes=found.ingest.get("quotes", True))
    columns = tuple(
        found.ingest[key] for key in ("text", "second", "group") if found.ingest.get(key)
    )
    columns += (label,) if isinstance(label, str) else tuple(label or ())
    one = label if isinstance(label, str) and table[label].classes else ""
    known = set(table[one].counts) if one else set()
    for split in [name for name in source if name != "train"]:
        try:
            first = source[split] if isinstance(source[split], str) else source[split][0]
            read = islice(read_rows(first, columns, layout), FEW)
            rows = [row for row in read if isinstance(row, Row)]
            fit = [row for row in rows if not known or row.fields[one].strip() in known]
            reason = "its labels are others" if len(fit) <= len(rows) / 2 else ""
        except UserError as error:
            reason = str(error).partition(": ")[2]
        if reason:
            del source[split]
            found.because("", f"{Path(first).name} is left out: {reason}")
    if len(source) == 1:
        found.ingest["source"] = source["train"]
