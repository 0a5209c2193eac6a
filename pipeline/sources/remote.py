"""Sources elsewhere: objects in S3, Google Cloud Storage and Azure, and files on the web. Each is
downloaded once for each of its versions.

Credentials come from the environment alone, as each service documents them.
"""

import hashlib
import mimetypes
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock

from pipeline.core.errors import Unavailable, UserError
from pipeline.core.files import atomic_write
from pipeline.core.locations import HUB, is_remote, locate
from pipeline.core.log import Log, no_log
from pipeline.core.workspace import STATE
from pipeline.sources.hub import from_hub
from pipeline.sources.urls import check_url, without_secrets

DOWNLOADS = STATE / "downloads"
PATIENCE = 60  # seconds without a byte
LONGEST_NAME = 200  # bytes of a file's name may be 255
BUSY = (408, 425, 429)  # states of HTTP that pass
REFUSALS = (  # errors of adlfs, azure and google for credentials that are none
    "ClientAuthenticationError",
    "DefaultCredentialsError",
    "RefreshError",
)
MISTAKES = (  # errors of botocore that a later call meets again
    "ConfigParseError",
    "InvalidConfigError",
    "NoRegionError",
    "ParamValidationError",
    "ProfileNotFound",
)
EXTRAS = {"s3": "s3", "gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure"}
VERSIONS = (
    *("VersionId", "generation", "ETag", "etag", "Content-MD5"),
    *("mtime", "LastModified", "Last-Modified"),
)


def local_path(source: str, log: Log = no_log) -> Path:
    """Return the local path of a source, after the download of a remote one.

    Raises UserError for a source that does not exist or may not be read, and Unavailable if its
    service does not answer.
    """
    if source.startswith(HUB):
        return from_hub(source, log)
    if not is_remote(source):
        return locate(source)
    check_url(source)
    with _errors(source):
        return _downloaded(source, log)


def check_watched(url: str) -> None:
    """Check an object that DVC watches; a path or package passes.

    DVC takes an object whose server is away for a deleted one, and one without a version for the
    same as long as its size is. Raises UserError if it does not exist, may not be read or has no
    version, and Unavailable if its service does not answer.
    """
    if not is_remote(url):
        return
    check_url(url)
    with _errors(url):
        system, path = _system(url)
        if not _version(_files(system, path)):
            raise UserError(
                f"{url}: its server tells no version (ETag), so DVC would miss changes: download"
                " it, and name the file in the recipe's ingest.source and watch"
            )


def _system(url: str) -> tuple[Any, str]:
    """Return the file system of a URL, and the object's name in it."""
    import fsspec

    options = {"client_kwargs": _http_options()} if url.startswith("http") else {}
    system, path = fsspec.core.url_to_fs(url, use_listings_cache=False, **options)
    if not path.strip("/"):
        raise ValueError("it names no bucket")
    return system, path if url.startswith("http") else path.rstrip("/")


def _downloaded(url: str, log: Log) -> Path:
    """Return the path of a download; its folder is named after the version of the object."""
    system, path = _system(url)
    DOWNLOADS.mkdir(parents=True, exist_ok=True)
    home = DOWNLOADS / hashlib.sha256(url.encode()).hexdigest()[:16]
    with FileLock(f"{home}.lock"):
        files = _files(system, path)
        version = _version(files)
        folder = home / (version or "unversioned")
        target = folder / _name_of(path, files.get(path, {}))
        if version and target.exists():
            return target
        with atomic_write(folder) as temporary:
            _download(system, path, files, temporary / target.name, log, url)
            if _version(_files(system, path)) != version:
                raise Unavailable(f"{url}: changed while it was read: call again")
        for other in home.iterdir():
            if other != folder:  # an earlier version, or what a killed process left
                shutil.rmtree(other)
    return target


def _http_options() -> dict[str, Any]:
    """Return settings of the web's client: proxies and .netrc as elsewhere, and no limit on the
    whole time, which would end long downloads."""
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=None, sock_connect=PATIENCE, sock_read=PATIENCE)
    return {"trust_env": True, "timeout": timeout}


def _files(system: Any, path: str) -> Mapping[str, Mapping[str, Any]]:
    """Return what the service tells of an object, or of all objects with a prefix, by name."""
    info = system.info(path)
    if info.get("type") != "directory":
        return {path: info}
    found = system.find(path, detail=True)
    folders = {path, *(str(each) for name in found for each in PurePosixPath(name).parents)}
    files = {
        name: each
        for name, each in found.items()  # without markers of folders, as consoles and Spark write
        if not name.endswith("/") and (each.get("size") or name not in folders)
    }
    if not files:
        raise FileNotFoundError(path)
    return files


def _name_of(path: str, info: Mapping[str, Any]) -> str:
    """Return the name of the local file. Without an extension the type that the server tells is
    taken for one, but for that of any text."""
    path = urlsplit(path).path if path.startswith("http") else path
    name = Path(path.rstrip("/")).name[-LONGEST_NAME:] or "index"
    told = mimetypes.guess_extension(str(info.get("mimetype", ""))) or ""
    return name if Path(name).suffix or told in ("", ".txt", ".bin") else name + told


def _version(files: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a digest of the versions of all files; "" if the service tells none."""
    found = [
        [name, *(str(info[key]) for key in VERSIONS if info.get(key))]
        for name, info in sorted(files.items())
    ]
    if any(len(each) == 1 for each in found):
        return ""
    return hashlib.sha256(repr(found).encode()).hexdigest()[:16]


def _download(
    system: Any,
    path: str,
    files: Mapping[str, Mapping[str, Any]],
    target: Path,
    log: Log,
    url: str,
) -> None:
    """Write the object `path` to the file `target`, or the objects with that prefix below it.

    Raises Unavailable if one does not have the size that the service tells.
    """
    from fsspec.callbacks import Callback

    total, done = sum(info.get("size") or 0 for info in files.values()), 0
    if not total:
        log.info(f"{url}: is being downloaded; its size is not known")

    def tell(_size: int | None, value: int, **_: Any) -> None:
        if total:
            log.progress(min(done + value, total), total, f"bytes of {url}")

    for name, info in files.items():
        place = target if name == path else target / name.removeprefix(path).lstrip("/")
        if not place.resolve().is_relative_to(target.resolve()):
            raise UserError(f"{url}: names a file outside of its folder: {name}")
        place.parent.mkdir(parents=True, exist_ok=True)
        system.get_file(name, str(place), callback=Callback(hooks={"tell": tell}))
        size, there = info.get("size"), place.stat().st_size
        if size is not None and there != size:
            raise Unavailable(f"{url}: broke off after {there:,} of {size:,} bytes: call again")
        done += there


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
        package = error.name or getattr(error.__cause__, "name", None) or "a package"
        extra = EXTRAS.get(urlsplit(url).scheme, "line")
        raise UserError(
            f"{url}: {package} is not installed: pip install 'bertline[{extra}]'"
        ) from None
    except Exception as error:  # of aiohttp, botocore, gcsfs, adlfs …: no common base
        raise _translated(url, error) from None


def _translated(url: str, error: BaseException) -> UserError:
    name, status = type(error).__name__, _status(error)
    reason = f"it says {status}" if status else without_secrets(str(error)) or name
    if isinstance(error, PermissionError) or "Credential" in name or status in (401, 403):
        return UserError(
            f"{url}: may not be read ({reason}): set the credentials of its service in the"
            " environment"
        )
    if status is not None and 400 <= status < 500 and status not in BUSY:
        return UserError(f"{url}: its server says {status}: correct the source in the recipe")
    if isinstance(error, ValueError | OverflowError) or name in MISTAKES:
        return UserError(f"{url}: cannot be read ({reason}): correct the source in the recipe")
    return Unavailable(f"{url}: cannot be read now ({reason}): call again later")


def _status(error: BaseException) -> int | None:
    """Return the status of HTTP that an error of any client holds."""
    response = getattr(error, "response", None)
    told = response.get("ResponseMetadata", {}) if isinstance(response, dict) else {}  # botocore
    found = told.get("HTTPStatusCode") or getattr(error, "status", None)
    found = found or getattr(error, "status_code", None) or getattr(error, "code", None)
    return found if isinstance(found, int) and found >= 400 else None
