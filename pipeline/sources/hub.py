"""Data sets of the Hugging Face hub, by name and revision."""

import errno
import re
from collections.abc import Sequence
from pathlib import Path

from pipeline.core.errors import Unavailable, UserError
from pipeline.core.locations import HUB
from pipeline.sources.datasets_folder import is_saved, shards
from pipeline.sources.unpack import COMPRESSED
from pipeline.sources.urls import without_secrets

TABLES = (".parquet", ".jsonl", ".ndjson", ".json", ".csv", ".tsv")
PATTERNS = tuple(f"*{kind}{packed}" for kind in (*TABLES, ".arrow") for packed in ("", *COMPRESSED))


def from_hub(source: str) -> Path:
    """Return the folder of a data set `hub:NAME@REVISION`. No code of it is run
    (https://huggingface.co/docs/huggingface_hub/package_reference/file_download)."""
    name, _, revision = source.removeprefix(HUB).partition("@")
    if not name or not revision:
        raise UserError(f"{source}: name the revision as hub:NAME@REVISION (a commit's hash)")
    from huggingface_hub import snapshot_download

    try:
        found = snapshot_download(
            name, repo_type="dataset", revision=revision, allow_patterns=list(PATTERNS)
        )
    except Exception as error:  # also of its web client
        raise _of_hub(source, error) from None
    files = shards(Path(found), TABLES)
    if not files and not is_saved(Path(found)):
        raise UserError(
            f"{source}: holds no Parquet, CSV or JSON: if a script makes its rows, run"
            " it yourself, and name the folder of Dataset.save_to_disk"
        )
    _check_whole(source, files)
    return Path(found)


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
