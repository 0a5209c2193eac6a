"""Servers on this machine that hold the rows of tests: a web server and an S3 store."""

import hashlib
import http.server
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest


class Site:
    """Web server on this machine, with the content of its pages and the requests for it."""

    def __init__(self) -> None:
        self.pages: dict[str, bytes] = {}
        self.short = 0
        self.headers = ("ETag", "Content-Length")
        self.answers: dict[str, tuple[int, str]] = {}
        self.loading: Callable[[], object] = lambda: None
        self.loaded: list[str] = []
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                site.loaded.append(self.path)
                site.loading()
                self.answer(body=True)

            def answer(self, *, body: bool) -> None:
                path, _, _ = self.path.partition("?")
                status, target = site.answers.get(path, (200 if path in site.pages else 404, ""))
                self.send_response(status)
                if status != 200:
                    if target:
                        self.send_header("Location", target)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                content = site.pages[path]
                headers = {
                    "ETag": f'"{hashlib.md5(content).hexdigest()}"',
                    "Content-Length": str(len(content)),
                    "Last-Modified": "Tue, 01 Dec 2026 08:00:00 GMT",
                    "Content-Type": "text/csv; charset=utf-8",
                }
                for name in site.headers:
                    self.send_header(name, headers[name])
                self.end_headers()
                if body:
                    self.wfile.write(content[: len(content) - site.short])

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        serve = partial(self.server.serve_forever, poll_interval=0.01)
        threading.Thread(target=serve, daemon=True).start()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.chdir(tmp_path)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    site = Site()
    yield site
    site.server.shutdown()
    site.server.server_close()


class Store:
    """S3 store on this machine."""

    def __init__(self, endpoint: str, client: Any) -> None:
        self.endpoint, self.client = endpoint, client

    def put(self, key: str, content: bytes) -> None:
        self.client.put_object(Bucket="rows", Key=key, Body=content)


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    boto3 = pytest.importorskip("boto3")
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    keys = {"aws_access_key_id": "toy", "aws_secret_access_key": "toy"}
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys)
    client.create_bucket(Bucket="rows")
    yield Store(endpoint, client)
    server.stop()


@pytest.fixture
def bucket(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The store, as the environment names it."""
    import fsspec

    monkeypatch.chdir(tmp_path)
    known = {
        "AWS_ACCESS_KEY_ID": "toy",
        "AWS_SECRET_ACCESS_KEY": "toy",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": store.endpoint,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
    }
    for name, value in known.items():
        monkeypatch.setenv(name, value)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    return store
