"""Objects on the web and in S3 are read like files, once for each of their versions."""

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import Unavailable, UserError
from pipeline.sources import remote
from pipeline.sources.remote import check_url, local_path
from tests.pipeline.sources.reading import COLUMNS, good

FIRST, SECOND = b"text,label\na,x\n", b"text,label\na,x\nb,y\n"


class Site:
    """Web server on this machine, with the content of its pages and the requests for it."""

    def __init__(self) -> None:
        self.pages: dict[str, bytes] = {}
        self.short = 0
        self.loaded: list[str] = []
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                site.loaded.append(self.path)
                self.answer(body=True)

            def answer(self, *, body: bool) -> None:
                if self.path == "/secret.csv":
                    self.send_error(403)
                    return
                if self.path not in site.pages:
                    self.send_error(404)
                    return
                content = site.pages[self.path]
                self.send_response(200)
                self.send_header("ETag", f'"{hashlib.md5(content).hexdigest()}"')
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if body:
                    self.wfile.write(content[: len(content) - site.short])

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.chdir(tmp_path)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    site = Site()
    yield site
    site.server.shutdown()
    site.server.server_close()


def texts(source: str) -> list[tuple[str, ...]]:
    from pipeline.sources import read_rows

    return good(list(read_rows(source, COLUMNS)))


def test_a_file_on_the_web_is_read_and_kept_until_it_changes(site: Site) -> None:
    site.pages["/rows.csv"] = FIRST
    url = f"{site.url}/rows.csv"
    assert texts(url) == texts(url) == [("a", "x")]
    assert site.loaded.count("/rows.csv") == 1
    site.pages["/rows.csv"] = SECOND
    assert texts(url) == [("a", "x"), ("b", "y")]
    files = [file for file in remote.DOWNLOADS.rglob("*") if file.is_file()]
    assert [file.name for file in files] == ["rows.csv"]  # that of the earlier version is gone


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("none.csv", "no such object: correct the source"),
        ("secret.csv", "may not be read"),
    ],
)
def test_what_cannot_be_read_is_one_line(site: Site, page: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        texts(f"{site.url}/{page}")
    assert not list(remote.DOWNLOADS.rglob("*.csv"))


def test_a_server_that_does_not_answer_is_a_state_of_the_world(site: Site) -> None:
    site.pages["/rows.csv"] = FIRST
    site.short = 3
    with pytest.raises(Unavailable):
        texts(f"{site.url}/rows.csv")
    assert not list(remote.DOWNLOADS.rglob("rows.csv"))
    site.server.shutdown()
    site.server.server_close()
    with pytest.raises(Unavailable, match="call again"):
        texts(f"{site.url}/rows.csv")


@pytest.mark.parametrize(
    "url",
    [
        "https://me:word@example.com/rows.csv",
        "https://example.com/rows.csv?X-Amz-Signature=abc",
        "https://example.com/rows.csv?api_key=abc",
    ],
)
def test_secrets_stay_out_of_recipes(url: str) -> None:
    with pytest.raises(UserError, match="give credentials by environment variables") as caught:
        check_url(url)
    assert "abc" not in str(caught.value)
    assert "word" not in str(caught.value).replace("password", "")


def test_a_service_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    def missing(*_: Any, **__: Any) -> None:
        raise ImportError("no gcsfs", name="gcsfs")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(UserError, match=r"gcsfs is not installed: pip install 'bertline\[gcs\]'"):
        local_path("gs://bucket/rows.csv")


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Client of an S3 store on this machine with the bucket `rows`."""
    boto3 = pytest.importorskip("boto3")
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.chdir(tmp_path)
    known = {
        "AWS_ACCESS_KEY_ID": "toy",
        "AWS_SECRET_ACCESS_KEY": "toy",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
    }
    for name, value in known.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="rows")
    yield client
    server.stop()


def test_objects_and_prefixes_of_s3_are_files_and_folders(bucket: Any) -> None:
    bucket.put_object(Bucket="rows", Key="some/a.csv", Body=FIRST)
    assert texts("s3://rows/some/a.csv") == [("a", "x")]
    bucket.put_object(Bucket="rows", Key="some/a.csv", Body=SECOND)
    assert texts("s3://rows/some/a.csv") == [("a", "x"), ("b", "y")]
    bucket.put_object(Bucket="rows", Key="some/b.csv", Body=FIRST)
    assert texts("s3://rows/some") == [("a", "x"), ("b", "y"), ("a", "x")]
    with pytest.raises(UserError, match="no such object"):
        texts("s3://rows/none.csv")
