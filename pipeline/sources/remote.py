"""Sources elsewhere: objects in S3, Google Cloud Storage and Azure, files on the web, and data sets
of the Hugging Face hub. Each is downloaded once for each of its versions.

Credentials come from the environment alone, as each service documents them.
"""

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from pipeline.core.errors import Unavailable, UserError
from pipeline.core.files import atomic_write
from pipeline.core.locations import HUB, is_remote, locate
from pipeline.core.log import Log, no_log
from pipeline.core.workspace import STATE

DOWNLOADS = STATE / "downloads"
CHUNK = 1 << 22  # bytes
SECRETS = ("key", "token", "sig", "secret", "password", "credential", "auth")  # in names of a query
EXTRAS = {"s3": "s3", "gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure"}
VERSIONS = ("VersionId", "generation", "ETag", "etag", "Content-MD5", "mtime", "LastModified")
TABLES = ("*.parquet", "*.jsonl", "*.json", "*.csv", "*.tsv", "*.gz", "*.zst")


def local_path(source: str, log: Log = no_log) -> Path:
    """Return the local path of a source, after the download of a remote one.

    Raises UserError for a source that does not exist or may not be read, and Unavailable if its
    service does not answer.
    """
    if source.startswith(HUB):
        return _from_hub(source)
    if not is_remote(source):
        return locate(source)
    check_url(source)
    with _errors(source):
        return _downloaded(source, log)


def check_url(url: str) -> None:
    """Raise UserError for a URL that holds a secret: recipes are stored in MLflow and git."""
    parts = urlsplit(url)
    names = {name.lower() for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
    held = next((name for name in sorted(names) if any(s in name for s in SECRETS)), None)
    if parts.username or parts.password or held:
        what = f"the secret {held!r}" if held else "a user or password"
        shown = f"{parts.scheme}://{parts.hostname}{parts.path}"
        raise UserError(f"{shown}: holds {what}: give credentials by environment variables")


def _downloaded(url: str, log: Log) -> Path:
    import fsspec

    options = {"client_kwargs": {"trust_env": True}} if url.startswith("http") else {}
    system, path = fsspec.core.url_to_fs(url, use_listings_cache=False, **options)
    info = system.info(path)
    if info.get("type") == "directory":
        files = dict(system.find(path, detail=True))
        if not files:
            raise FileNotFoundError(url)
    else:
        files = {path: info}
    home = DOWNLOADS / hashlib.sha256(url.encode()).hexdigest()[:16]
    version = _version(files)
    folder = home / (version or "unversioned")
    target = folder / (Path(urlsplit(url).path.rstrip("/")).name or "index")
    if version and target.exists():
        return target
    with atomic_write(folder) as temporary:
        for name, each in files.items():
            inside = name.removeprefix(path).lstrip("/") if len(files) > 1 or name != path else ""
            place = temporary / target.name / inside if inside else temporary / target.name
            if not place.resolve().is_relative_to(temporary.resolve()):
                raise UserError(f"{url}: names a file outside of its folder: {name}")
            _download(system, name, each.get("size"), place, url, log)
    for other in home.iterdir():
        if other != folder and not other.name.startswith("."):  # of earlier versions
            shutil.rmtree(other)
    return target


def _version(files: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a digest of the versions of all files; "" if the service tells none."""
    found = [
        [name, *(str(info[key]) for key in VERSIONS if info.get(key))]
        for name, info in sorted(files.items())
    ]
    if any(len(each) == 1 for each in found):
        return ""
    return hashlib.sha256(repr(found).encode()).hexdigest()[:16]


def _download(system: Any, name: str, size: int | None, place: Path, url: str, log: Log) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    done = 0
    with system.open(name, "rb") as source, place.open("wb") as written:
        while chunk := source.read(CHUNK):
            written.write(chunk)
            done += len(chunk)
            log.progress(done, size or done, f"bytes of {url}")
    if size is not None and done != size:
        raise Unavailable(f"{url}: broke off after {done:,} of {size:,} bytes: call again")


@contextmanager
def _errors(url: str) -> Iterator[None]:
    """Turn the errors of the many clients into one line."""
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError as error:
        cause = error.__cause__  # fsspec takes every failure on the web for a missing file
        if url.startswith("http") and cause and getattr(cause, "status", None) != 404:
            raise _translated(url, cause) from None
        raise UserError(f"{url}: no such object: correct the source in the recipe") from None
    except ImportError as error:
        extra = EXTRAS.get(urlsplit(url).scheme, "remote")
        raise UserError(
            f"{url}: {error.name or error} is not installed: pip install 'bertline[{extra}]'"
        ) from None
    except Exception as error:  # of aiohttp, botocore, gcsfs, adlfs …: no common base
        raise _translated(url, error) from None


def _translated(url: str, error: BaseException) -> UserError:
    name, reason = type(error).__name__, (str(error).splitlines() or [""])[0][:200]
    status = getattr(error, "status", None)
    if isinstance(error, PermissionError) or "Credential" in name or status in (401, 403):
        return UserError(
            f"{url}: may not be read ({reason or name}): set the credentials of its service in the"
            " environment"
        )
    if status is not None and 400 <= status < 500:
        return UserError(f"{url}: the server says {status}: correct the source in the recipe")
    return Unavailable(f"{url}: cannot be read now ({reason or name}): call again later")


def _from_hub(source: str) -> Path:
    """Return the folder of a data set `hub:NAME@REVISION`."""
    name, _, revision = source.removeprefix(HUB).partition("@")
    if not name or not revision:
        raise UserError(f"{source}: name the revision as hub:NAME@REVISION (a commit's hash)")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        found = snapshot_download(
            name, repo_type="dataset", revision=revision, allow_patterns=list(TABLES)
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{source}: cannot be downloaded from the hub: {reason}") from None
    return Path(found)
