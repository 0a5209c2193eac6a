"""Data sets of the Hugging Face hub, by name, revision and configuration."""

import errno
import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from pipeline.core.config import nearest
from pipeline.core.errors import Unavailable, UserError
from pipeline.core.files import atomic_write
from pipeline.core.locations import HUB
from pipeline.core.log import Log, no_log
from pipeline.core.text import excerpt
from pipeline.core.workspace import STATE
from pipeline.sources.datasets_folder import is_saved, shards
from pipeline.sources.unpack import COMPRESSED
from pipeline.sources.urls import without_secrets

NAMED = 20  # configurations that a message names
TABLES = (".parquet", ".jsonl", ".ndjson", ".json", ".csv", ".tsv")
CARD = "README.md"  # names the configurations
PATTERNS = (
    CARD,
    *(f"*{kind}{packed}" for kind in (*TABLES, ".arrow") for packed in ("", *COMPRESSED)),
)
CONVERTED = "refs/convert/parquet"  # the hub's own revision, a folder for each configuration
VIEWS = STATE / "hub"


def from_hub(source: str, log: Log = no_log) -> Path:
    """Return the folder of a data set `hub:NAME@REVISION`, or of one of its configurations
    `hub:NAME@REVISION:CONFIGURATION`. No code of it is run
    (https://huggingface.co/docs/huggingface_hub/package_reference/file_download)."""
    name, _, rest = source.removeprefix(HUB).partition("@")
    revision, _, configuration = rest.partition(":")
    if not name or not revision:
        raise UserError(f"{source}: name the revision as hub:NAME@REVISION (a commit's hash)")
    from huggingface_hub import snapshot_download

    try:
        found = snapshot_download(
            name, repo_type="dataset", revision=revision, allow_patterns=list(PATTERNS)
        )
    except Exception as error:  # also of its web client
        raise _of_hub(source, error) from None
    folder = _configured(Path(found), source, configuration, revision, log)
    files = shards(folder, TABLES)
    if not files and not is_saved(folder):
        raise UserError(
            f"{source}: holds no Parquet, CSV or JSON: if a script makes its rows, run"
            " it yourself, and name the folder of Dataset.save_to_disk"
        )
    _check_whole(source, files)
    return folder


def _configured(folder: Path, source: str, name: str, revision: str, log: Log) -> Path:
    """Return the folder of a configuration of a data set: of the only one, or of the default one,
    if none is named.

    Raises UserError for a name that the data set does not have, and if one has to be named.
    """
    card = folder / CARD
    if card.is_file() and re.search(r"^configs:", card.read_text("utf-8", "replace"), re.MULTILINE):
        return _described(folder, source, name, log)
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    if name:
        _check_known(source, name, names)
        return folder / name
    if revision == CONVERTED and len(names) > 1:
        raise _unnamed(source, names)
    return folder


def _described(folder: Path, source: str, name: str, log: Log) -> Path:
    """Return a folder with links to the files of a configuration that the card describes, as the
    library datasets reads it, in a folder for each split."""
    import datasets

    _check_inside(folder / CARD, source)
    try:
        names = datasets.get_dataset_config_names(str(folder))
        default = datasets.get_dataset_default_config_name(str(folder))
    except Exception as error:  # of datasets: for a card that it cannot follow, of any kind
        raise _misled(source, error) from None
    if name:
        _check_known(source, name, names)
    elif default is None:
        raise _unnamed(source, names)
    elif len(names) > 1:
        log.info(f"{source}: its default configuration {default!r} of {len(names)} is read")
    place = VIEWS / hashlib.sha256(f"{source} {folder}".encode()).hexdigest()[:16]
    VIEWS.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{place}.lock"):
        try:
            builder = datasets.load_dataset_builder(
                str(folder), name or default, cache_dir=str(VIEWS / "datasets")
            )
        except Exception as error:
            raise _misled(source, error) from None
        with atomic_write(place) as temporary:
            temporary.mkdir()
            for split, files in builder.config.data_files.items():
                for file in map(Path, files):
                    link = temporary / str(split) / file.relative_to(folder)
                    link.parent.mkdir(parents=True, exist_ok=True)
                    link.symlink_to(file)
    return place


def _check_inside(card: Path, source: str) -> None:
    """Raise UserError for a card that names files outside of its data set."""
    from ruamel.yaml import YAML, YAMLError

    def strings(content: Any) -> Iterator[str]:
        if isinstance(content, str):
            yield content
        elif isinstance(content, list | dict):
            for part in content.values() if isinstance(content, dict) else content:
                yield from strings(part)

    try:
        content = YAML(typ="safe").load(card.read_text("utf-8").split("---")[1])
        for name in strings([each.get("data_files") for each in content["configs"]]):
            if "://" in name or name.startswith("/") or ".." in Path(name).parts:
                raise ValueError(f"names {excerpt(name)}, outside of the data set")
    except (YAMLError, ValueError, LookupError, AttributeError, TypeError) as error:
        raise _misled(source, error) from None


def _misled(source: str, error: Exception) -> UserError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return UserError(f"{source}: its {CARD} cannot be followed: {excerpt(reason, 200)}")


def _check_known(source: str, name: str, names: Sequence[str]) -> None:
    if name not in names:
        hint = nearest(name, names) if len(names) <= NAMED else ""
        raise UserError(f"{source}: has no configuration {name!r}{hint}")


def _unnamed(source: str, names: Sequence[str]) -> UserError:
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    shown = ", ".join(excerpt(name, 40) for name in names[:NAMED])
    first = f"{source}:{names[0]}"
    return UserError(
        f"{source}: has {len(names):,} configurations: name one, {first} ({shown}{more})"
    )


def _check_whole(source: str, files: Sequence[Path]) -> None:
    """Raise UserError if of files such as `train-00000-of-00002.parquet` some are missing: where
    the hub is turned off, nothing else tells that a download was cut short."""
    numbers: dict[tuple[str, int], set[int]] = {}
    for file in files:
        if match := re.search(r"-(\d+)-of-(\d+)", file.name):
            rest = file.name[: match.start(1)] + "*" + file.name[match.end(1) :]
            numbers.setdefault((str(file.with_name(rest)), int(match[2])), set()).add(int(match[1]))
    for (pattern, count), there in numbers.items():
        if missing := set(range(count)) - there:
            raise UserError(
                f"{source}: of {Path(pattern).name}, {len(missing)} of {count} are missing, the"
                f" first is {min(missing)}: download the data set again"
            )


def _of_hub(source: str, error: Exception) -> UserError:
    """Return the one line for an error of a download from the hub."""
    from huggingface_hub import constants, errors

    cause = error.__cause__ if isinstance(error, errors.LocalEntryNotFoundError) else error
    status = getattr(getattr(cause, "response", None), "status_code", None)
    if isinstance(error, errors.GatedRepoError) or status in (401, 403):
        return UserError(
            f"{source}: may not be read (the hub says {status}): accept its terms there, if it has"
            " some, and set HF_TOKEN in the environment"
        )
    if isinstance(error, errors.RepositoryNotFoundError | errors.RevisionNotFoundError):
        return UserError(f"{source}: the hub has none: correct the name and the revision")
    reason = without_secrets(str(error).strip())
    if isinstance(error, ValueError) or constants.HF_HUB_OFFLINE:
        return UserError(f"{source}: cannot be downloaded from the hub: {reason}")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EACCES, errno.EROFS):
        return UserError(f"{source}: cannot be written: {reason}")
    return Unavailable(f"{source}: the hub cannot be asked now ({reason}): call again later")
