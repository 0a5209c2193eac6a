"""Where rows and base models come from: installed packages, local files and folders, the hub."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from pipeline.config import Settings, nearest
from pipeline.errors import UserError
from pipeline.files import sha256_of
from pipeline.text import excerpt

PACKAGE, HUB = "package:", "hub:"
LARGEST_ROW = 10_000_000  # characters of one field or line: beyond it a file is taken for broken
FORMATS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")


@dataclass(frozen=True)
class Row:
    """One row as it stands in its source; `fields` maps column to value, "" where it is empty."""

    file: str
    number: int
    fields: Mapping[str, str]


@dataclass(frozen=True)
class Reject:
    """One row that cannot be read, and why."""

    file: str
    number: int
    reason: str
    excerpt: str = ""


def locate(source: str) -> Path:
    """The path that a source names: `package:NAME/FOLDER` inside an installed package, or a path.

    Raises UserError where nothing is there.
    """
    if not source.startswith(PACKAGE):
        path = Path(source)
        if not path.exists():
            raise UserError(f"{source}: no such file or folder: mend the path in the recipe")
        return path
    name, _, inside = source.removeprefix(PACKAGE).partition("/")
    found = find_spec(name) if name.isidentifier() else None
    if found is None or not found.submodule_search_locations:
        raise UserError(f"{source}: package {name!r} is not installed: pip install it")
    path = Path(found.submodule_search_locations[0]) / inside
    if not path.exists():
        raise UserError(f"{source}: the package {name!r} holds no {inside!r}")
    return path


def read_rows(source: str, columns: tuple[str, ...]) -> Iterator[Row | Reject]:
    """All rows of a source in a fixed order, the unreadable ones as `Reject`.

    CSV, TSV (both with a header line), JSON Lines, Parquet, or a folder that holds one folder of
    text files a label (its columns are `text` and `label`). `columns` must be there.
    """
    path = locate(source)
    shown = source if source.startswith(PACKAGE) else str(path)
    if path.is_dir():
        yield from _read_folder(path, shown, columns)
        return
    readers: dict[str, Callable[[Path, str, tuple[str, ...]], Iterator[Row | Reject]]] = {
        ".csv": _read_csv,
        ".tsv": _read_csv,
        ".jsonl": _read_json_lines,
        ".ndjson": _read_json_lines,
        ".parquet": _read_parquet,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{shown}: unknown format {path.suffix!r}: use one of {', '.join(FORMATS)}")
    if path.stat().st_size == 0:
        raise UserError(f"{shown}: is empty: give a file with rows")
    yield from reader(path, shown, columns)


def _read_folder(path: Path, shown: str, columns: tuple[str, ...]) -> Iterator[Row | Reject]:
    _require(columns, ("text", "label"), shown, "a folder of folders gives")
    files = sorted(
        (folder.name, file.name, file)
        for folder in path.iterdir()
        if folder.is_dir() and not folder.name.startswith((".", "__"))
        for file in folder.iterdir()
        if file.is_file() and not file.name.startswith(".")
    )
    if not files:
        raise UserError(f"{shown}: holds no files in folders: one folder a label is expected")
    for label, name, file in files:
        where = f"{label}/{name}"
        if file.stat().st_size > LARGEST_ROW:
            yield Reject(where, 1, f"longer than {LARGEST_ROW:,} bytes")
            continue
        content = file.read_bytes()
        try:
            yield Row(where, 1, {"text": content.decode("utf-8-sig"), "label": label})
        except UnicodeDecodeError as error:
            yield _undecodable(where, 1, error, content)


def _read_csv(path: Path, shown: str, columns: tuple[str, ...]) -> Iterator[Row | Reject]:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    csv.field_size_limit(LARGEST_ROW)
    # Undecodable bytes survive as lone surrogates, so that one bad byte costs one row and no more.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            header = next(reader, [])
        except csv.Error as error:
            raise UserError(f"{shown}: row 1: the header cannot be read: {error}") from None
        _require(columns, tuple(header), shown, "its header names")
        repeated = sorted({name for name in header if header.count(name) > 1} & set(columns))
        if repeated:
            raise UserError(
                f"{shown}: row 1: the column {repeated[0]!r} is named twice: rename one"
            )
        while True:
            line = reader.line_num + 1
            try:
                values = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Reject(shown, line, _csv_reason(str(error)))
                continue
            if not values:  # a blank line
                continue
            whole = delimiter.join(values)
            try:
                whole.encode("utf-8")
            except UnicodeEncodeError:
                raw = whole.encode("utf-8", "surrogateescape")
                try:
                    raw.decode("utf-8")
                except UnicodeDecodeError as error:
                    yield _undecodable(shown, line, error, raw)
                continue
            if len(values) != len(header):
                reason = f"has {len(values)} fields where the header has {len(header)}"
                yield Reject(shown, line, reason, excerpt(whole))
                continue
            yield Row(shown, line, dict(zip(header, values, strict=True)))


def _csv_reason(error: str) -> str:
    if "field limit" in error:
        return f"a field is longer than {LARGEST_ROW:,} characters (is a quote left open?)"
    if "unexpected end of data" in error:
        return "a quote that opens here is never closed"
    return f"its quotes do not match ({error})"


def _read_json_lines(path: Path, shown: str, columns: tuple[str, ...]) -> Iterator[Row | Reject]:
    seen = False
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            if len(line) > LARGEST_ROW:
                yield Reject(shown, number, f"longer than {LARGEST_ROW:,} bytes")
                continue
            try:
                content = json.loads(line.decode("utf-8-sig"))
            except UnicodeDecodeError as error:
                yield _undecodable(shown, number, error, line)
                continue
            except (ValueError, RecursionError) as error:
                reason = f"is not JSON ({str(error).partition(':')[0]})"
                yield Reject(shown, number, reason, excerpt(line.decode("utf-8")))
                continue
            if not isinstance(content, dict):
                yield Reject(shown, number, "is not a JSON object", excerpt(str(content)))
                continue
            if not seen:
                _require(columns, tuple(content), shown, "its first row has")
                seen = True
            yield _checked(shown, number, dict.fromkeys(columns, "") | content)


def _read_parquet(path: Path, shown: str, columns: tuple[str, ...]) -> Iterator[Row | Reject]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            _require(columns, tuple(file.schema_arrow.names), shown, "its columns are")
            number = 0
            for batch in file.iter_batches(batch_size=4096, columns=list(columns)):
                for fields in batch.to_pylist():
                    number += 1
                    yield _checked(shown, number, fields)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{shown}: is not a whole Parquet file ({reason}): write it again"
        ) from None


def _checked(file: str, number: int, fields: Mapping[str, object]) -> Row | Reject:
    """A row whose every cell is text that can be written as UTF-8."""
    try:
        texts = {str(name): _as_text(value) for name, value in fields.items()}
        "".join(texts.values()).encode()
    except (UnicodeEncodeError, UnicodeDecodeError) as error:
        return Reject(file, number, f"is not Unicode text ({error.reason})")
    return Row(file, number, texts)


def _as_text(value: object) -> str:
    """A cell as text: nothing stays empty, numbers, lists and truth values as JSON writes them."""
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, bool | int | float | list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def _undecodable(file: str, number: int, error: UnicodeDecodeError, content: bytes) -> Reject:
    reason = f"is not UTF-8 (byte 0x{error.object[error.start]:02x} at offset {error.start})"
    return Reject(file, number, reason, excerpt(content[:4096].decode("utf-8", "replace")))


def _require(columns: tuple[str, ...], present: tuple[str, ...], shown: str, what: str) -> None:
    for column in columns:
        if column not in present:
            hint = nearest(column, present)
            raise UserError(
                f"{shown}: row 1: no column {column!r}: {what} {', '.join(present)}{hint}"
            )


class BaseParams(Settings):
    """The pretrained encoder that a recipe starts from."""

    model: str
    """`package:NAME/FOLDER` in an installed package, a local folder, or `hub:NAME@REVISION`."""
    sha256: str | None
    """Digest of its model.safetensors, checked before every use; null leaves it unchecked."""
    watch: str
    """The path that DVC watches for a new base: the folder, or the versions file of a package."""


def base_folder(base: BaseParams) -> Path:
    """The local folder of a base model, its weights checked against the recipe's digest.

    The hub is asked only for `hub:` sources, whose revision must be given
    (https://huggingface.co/docs/huggingface_hub/package_reference/file_download).
    """
    folder = _from_hub(base.model) if base.model.startswith(HUB) else locate(base.model)
    weights = folder / "model.safetensors"
    for needed in ("config.json", "model.safetensors"):
        if not (folder / needed).is_file():
            raise UserError(f"{base.model}: holds no {needed}: give a saved encoder in safetensors")
    if base.sha256 is not None and (digest := sha256_of(weights)) != base.sha256:
        raise UserError(
            f"{base.model}: model.safetensors has the SHA-256 {digest}, not the recipe's"
            f" {base.sha256}: get the right file, or pin the new digest in base.sha256"
        )
    return folder


def _from_hub(source: str) -> Path:
    name, _, revision = source.removeprefix(HUB).partition("@")
    if not name or not revision:
        raise UserError(f"{source}: name the revision as hub:NAME@REVISION (a commit's hash)")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    patterns = ["*.json", "model.safetensors", "vocab.txt", "merges.txt", "*.model"]
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{source}: cannot be had from the hub: {reason}") from None
