"""Objects on the web and in S3 are read like files, once for each of their versions."""

import sys
import threading
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import Unavailable, UserError
from pipeline.core.log import NullLog
from pipeline.sources import Layout, read_rows, remote
from pipeline.sources.remote import check_watched, local_path
from tests.pipeline.sources.reading import COLUMNS, good
from tests.servers import Site, Store

FIRST, SECOND = b"text,label\na,x\n", b"text,label\na,x\nb,y\n"
OTHER = b"text,label\nb,x\n"  # as long as the first


def texts(source: str) -> list[tuple[str, ...]]:
    return good(list(read_rows(source, COLUMNS)))


def kept() -> list[str]:
    """Return the names of the downloaded files."""
    files = [file for file in remote.DOWNLOADS.rglob("*") if file.is_file()]
    return sorted(file.name for file in files if file.suffix != ".lock")


@pytest.mark.parametrize("header", ["ETag", "Last-Modified"])
def test_a_file_on_the_web_is_read_and_kept_until_it_changes(site: Site, header: str) -> None:
    site.headers = (header, "Content-Length")
    site.pages["/rows.csv"] = FIRST
    url = f"{site.url}/rows.csv"
    assert texts(url) == texts(url) == [("a", "x")]
    assert site.loaded.count("/rows.csv") == 1
    site.pages["/rows.csv"] = SECOND
    site.headers = ("ETag", "Content-Length")
    assert texts(url) == [("a", "x"), ("b", "y")]
    assert kept() == ["rows.csv"]  # that of the earlier version is gone


def test_a_file_without_a_version_is_downloaded_each_time(site: Site) -> None:
    site.headers = ("Content-Length",)
    site.pages["/rows.csv"] = FIRST
    assert texts(f"{site.url}/rows.csv") == [("a", "x")]
    site.pages["/rows.csv"] = OTHER
    assert texts(f"{site.url}/rows.csv") == [("b", "x")]


def test_a_large_file_of_a_server_without_ranges_is_read(site: Site) -> None:
    site.pages["/rows.csv"] = b"text,label\n" + (b"a" * 99 + b",x\n") * 60_000
    told: list[int] = []

    class Progress(NullLog):
        def progress(self, done: int, total: int, note: str = "") -> None:
            assert (total, note) == (len(site.pages["/rows.csv"]), f"bytes of {site.url}/rows.csv")
            told.append(done)

    file = local_path(f"{site.url}/rows.csv", Progress())
    assert file.read_bytes() == site.pages["/rows.csv"]
    assert told[-1] == len(site.pages["/rows.csv"]) > told[0]


def test_the_type_that_a_server_tells_stands_for_an_extension(site: Site) -> None:
    site.pages["/download"] = FIRST
    site.headers = ("Content-Type", "ETag")
    assert texts(f"{site.url}/download?id=3") == [("a", "x")]
    assert kept() == ["download.csv"]


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (404, UserError, "no such object: correct the source"),
        (410, UserError, "its server says 410: correct the source"),
        (401, UserError, r"may not be read \(it says 401\): set the credentials"),
        (403, UserError, r"may not be read \(it says 403\): set the credentials"),
        (429, Unavailable, "it says 429.*call again"),
        (500, Unavailable, "it says 500.*call again"),
        (503, Unavailable, "it says 503.*call again"),
    ],
)
def test_what_a_server_refuses_is_one_line(
    site: Site, status: int, kind: type[UserError], message: str
) -> None:
    site.answers["/rows.csv"] = (status, "")
    with pytest.raises(UserError, match=message) as caught:
        texts(f"{site.url}/rows.csv")
    assert type(caught.value) is kind
    assert kept() == []


@pytest.mark.parametrize("status", [403, 503])
def test_the_signature_of_an_address_that_a_server_names_is_not_told(
    site: Site, status: int
) -> None:
    site.answers = {
        "/rows.csv": (302, "/store?X-Amz-Signature=planted"),
        "/store": (status, ""),
    }
    with pytest.raises(UserError, match=f"{site.url}/rows.csv: .*says {status}") as caught:
        texts(f"{site.url}/rows.csv")
    assert "planted" not in str(caught.value)


def test_a_download_that_breaks_off_leaves_nothing(site: Site) -> None:
    site.pages["/rows.csv"] = FIRST
    site.short = 3
    with pytest.raises(Unavailable, match="call again"):
        texts(f"{site.url}/rows.csv")
    assert kept() == []


def test_a_client_that_hands_over_less_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Cut:
        def info(self, path: str) -> dict[str, Any]:
            return {"name": path, "size": len(FIRST), "ETag": "1", "type": "file"}

        def get_file(self, name: str, place: str, callback: object) -> None:
            Path(place).write_bytes(FIRST[:-2])

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(remote, "_system", lambda url: (Cut(), "a.csv"))
    with pytest.raises(Unavailable, match="broke off after 13 of 15 bytes: call again"):
        local_path("s3://bucket/a.csv")
    assert kept() == []


def test_a_file_that_changes_while_it_is_read_is_not_kept(site: Site) -> None:
    site.pages["/rows.csv"] = FIRST
    site.loading = lambda: site.pages.update({"/rows.csv": OTHER})
    with pytest.raises(Unavailable, match="changed while it was read: call again"):
        texts(f"{site.url}/rows.csv")
    assert kept() == []


def test_a_server_that_does_not_answer_is_a_state_of_the_world(site: Site) -> None:
    site.server.shutdown()
    site.server.server_close()
    with pytest.raises(Unavailable, match=r"Cannot connect .*call again"):
        texts(f"{site.url}/rows.csv")
    with pytest.raises(Unavailable, match=r"Cannot connect .*call again"):
        texts("https://no-such-host.invalid/rows.csv")


def test_a_server_that_is_silent_is_a_state_of_the_world(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "PATIENCE", 0.1)
    site.pages["/rows.csv"] = FIRST
    done = threading.Event()
    site.loading = lambda: done.wait(10)
    with pytest.raises(Unavailable, match="call again"):
        texts(f"{site.url}/rows.csv")
    done.set()
    assert kept() == []


def test_an_object_that_dvc_watches_has_a_version(site: Site) -> None:
    """DVC hashes what the server tells: by its size alone, other rows of the same size are old."""
    site.pages["/rows.csv"] = FIRST
    url = f"{site.url}/rows.csv"
    check_watched(url)
    site.headers = ("Last-Modified", "Content-Length")
    check_watched(url)
    site.headers = ("Content-Length",)
    with pytest.raises(UserError, match=r"tells no version \(ETag\), so DVC would miss changes"):
        check_watched(url)
    site.server.shutdown()
    site.server.server_close()
    with pytest.raises(Unavailable, match="call again"):
        check_watched(url)
    check_watched("constraints.txt")


def test_parallel_texts_are_local(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="parallel texts are read from local files"):
        list(read_rows("https://host/a.en", ("en", "fr"), Layout(format="parallel")))


@pytest.mark.parametrize("url", ["http://", "http:///x.csv", "http://127.0.0.1:99999/x.csv"])
def test_an_address_that_is_none_is_a_mistake(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="correct the source") as caught:
        texts(url)
    assert type(caught.value) is UserError


@pytest.mark.parametrize(
    ("url", "package", "extra"),
    [
        ("gs://bucket/rows.csv", "gcsfs", "gcs"),
        ("az://container/rows.csv", "adlfs", "azure"),
        ("s3://bucket/rows.csv", "s3fs", "s3"),
        ("https://host/rows.csv", "aiohttp", "line"),
    ],
)
def test_a_service_without_its_package_names_the_extra(
    url: str, package: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(import_module("fsspec.registry"), "registry", {})
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "fsspec.implementations.http", raising=False)
    what = rf"{package} is not installed: pip install 'bertline\[{extra}\]'"
    with pytest.raises(UserError, match=what) as caught:
        local_path(url)
    assert type(caught.value) is UserError


def test_an_object_of_s3_is_read_and_kept_until_it_changes(bucket: Store) -> None:
    bucket.put("one/a.csv", FIRST)
    assert texts("s3://rows/one/a.csv") == [("a", "x")]
    before = [file.stat().st_ino for file in remote.DOWNLOADS.rglob("*.csv")]
    assert texts("s3://rows/one/a.csv") == [("a", "x")]
    assert [file.stat().st_ino for file in remote.DOWNLOADS.rglob("*.csv")] == before
    bucket.put("one/a.csv", SECOND)
    assert texts("s3://rows/one/a.csv") == [("a", "x"), ("b", "y")]
    assert kept() == ["a.csv"]


@pytest.mark.parametrize("end", ["", "/"])
def test_a_prefix_of_s3_is_a_folder(bucket: Store, end: str) -> None:
    for key in ("many/", "many/deep/", "many/_SUCCESS"):  # as consoles and Spark write them
        bucket.put(key, b"")
    bucket.put("many/train-0.csv", FIRST)
    bucket.put("many/deep/test.csv", SECOND)
    bucket.put("many-others/a.csv", SECOND)
    assert texts(f"s3://rows/many{end}") == [("a", "x"), ("b", "y"), ("a", "x")]
    bucket.client.delete_object(Bucket="rows", Key="many/deep/test.csv")
    assert texts(f"s3://rows/many{end}") == [("a", "x")]


@pytest.mark.parametrize("url", ["s3://rows/none.csv", "s3://rows/none/", "s3://no-bucket/a.csv"])
def test_an_object_that_s3_lacks_is_one_line(bucket: Store, url: str) -> None:
    with pytest.raises(UserError, match=f"{url}: no such object"):
        texts(url)


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        (
            {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None},
            UserError,
            "may not be read .*set the credentials of its service in the environment",
        ),
        ({"AWS_PROFILE": "nobody"}, UserError, "nobody.* correct the source"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, Unavailable, "call again later"),
    ],
)
def test_what_the_environment_lacks_is_one_line(
    bucket: Store,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, str | None],
    kind: type[UserError],
    message: str,
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    for name, value in changes.items():
        if value is None:
            monkeypatch.delenv(name)
        else:
            monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=message) as caught:
        texts("s3://rows/one/a.csv")
    assert type(caught.value) is kind
