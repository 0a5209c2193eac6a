"""Admission of requests by keys, hosts, origins and bodies."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import pytest

from pipeline.serving.settings import Limits
from tests.pipeline.serving.web import Site, Toy

KEY = "a-secret-key"
HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
WHOLE = HEAD + b'Content-Length: 12\r\n\r\n{"text":"a"}'
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
ASK = {"text": "a"}


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site(Toy(1), limits=Limits(bytes=100, slow_body=0.1))
    yield site
    site.close()


@pytest.fixture
def locked() -> Iterator[Site]:
    site = Site(Toy(1), keys=["another", KEY])
    yield site
    site.close()


# keys


@pytest.mark.parametrize("header", [{"authorization": f"Bearer {KEY}"}, {"x_api_key": KEY}])
def test_a_key_opens(locked: Site, header: dict[str, str]) -> None:
    assert locked.post("/predict", ASK, **header).status == 200
    assert locked.get("/metrics", **header).status == 200


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"authorization": f"Basic {KEY}"},
        {"authorization": "Bearer "},
        {"authorization": f"Bearer {KEY}x"},
        {"authorization": f"Bearer {KEY[:-1]}"},
        {"x_api_key": "é"},
        {"x_api_key": f"another,{KEY}"},
    ],
)
def test_without_a_key_nothing_is_told(locked: Site, header: dict[str, str]) -> None:
    for path in ("/predict", "/predict/batch", "/invocations", "/feedback", "/nothing"):
        assert locked.post(path, ASK, **header).status == 401
    for path in ("/metrics", "/openapi.json", "/nothing"):
        assert locked.get(path, **header).status == 401
    assert locked.get("/metrics", **header).headers["www-authenticate"] == "Bearer"


def test_health_and_pages_are_open(locked: Site) -> None:
    for path in ("/healthz", "/readyz", "/", "/page.js", "/docs"):
        assert locked.get(path).status == 200
    assert locked.get("/readyz").value["key"]


def test_no_key_is_written_down(locked: Site) -> None:
    locked.post("/predict", ASK, x_api_key=KEY)
    locked.post("/predict", ASK, authorization="Bearer wrong-key")
    assert KEY not in locked.log.getvalue() + repr(locked.app.settings)
    assert "wrong-key" not in locked.log.getvalue()


# hosts and origins


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:8000", "[::1]:8000"])
def test_this_machine_is_asked_by_its_own_names(site: Site, host: str) -> None:
    assert site.get("/healthz", host=host).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io:8000"]
)
def test_a_name_that_was_bound_to_this_machine_is_refused(site: Site, host: str) -> None:
    assert site.get("/readyz", host=host).status == 403
    assert site.post("/predict", ASK, host=host).status == 403


def test_a_proxy_may_ask_by_a_name_that_is_allowed() -> None:
    with closing(Site(Toy(1), hosts=["models.example"])) as site:
        own = {"host": "Models.example", "origin": "https://models.example"}
        assert site.post("/predict", ASK, **own).status == 200
        assert site.get("/readyz", host="evil.example").status == 403


def test_a_request_without_a_host_is_refused(site: Site) -> None:
    assert site.get("/healthz", host="").status == 400


def test_a_public_address_has_names_of_its_own() -> None:
    site = Site(Toy(1), bound="192.0.2.7")
    assert site.get("/healthz", host="api.example.org").status == 200
    site.close()


def test_pages_of_others_may_not_ask(site: Site) -> None:
    for origin in ("http://evil.example", "null", "http://localhost:9999", ""):
        status = site.post("/predict", ASK, origin=origin).status
        assert status == (403 if origin else 200)
    own = site.post("/predict", ASK, origin="http://localhost:8000")
    assert own.status == 200
    assert not [name for name in own.headers if name.startswith("access-control")]
    assert site.ask("OPTIONS", "/predict", b"", {"origin": "http://evil.example"}).status == 405


# bodies


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content_type": ""}, 415),
        ({"content_type": "text/plain"}, 415),
        ({"content_type": "application/jsonl"}, 415),
        ({"content_type": "application/json; charset=latin-1"}, 415),
        ({"content_type": "application/json", "content_encoding": "gzip"}, 415),
        ({"content_type": "Application/JSON; charset=UTF-8"}, 200),
    ],
)
def test_only_json_is_read(site: Site, headers: dict[str, str], status: int) -> None:
    given = {k.replace("_", "-"): v for k, v in headers.items()}
    assert site.ask("POST", "/predict", b'{"text":"a"}', given).status == status


def asked(site: Site, parts: Sequence[bytes | None], **headers: str) -> Any:
    given = {"content-type": "application/json"} | {
        k.replace("_", "-"): v for k, v in headers.items()
    }
    return site.loop.run_until_complete(site.asked("POST", "/predict", list(parts), given))


def test_a_body_that_says_its_length_is_refused_unread(site: Site) -> None:
    assert asked(site, [None], content_length="101").status == 413


def test_a_body_that_does_not_is_read_no_further_than_the_limit(site: Site) -> None:
    assert asked(site, [b" " * 60, b" " * 60, None]).status == 413


def test_a_body_may_come_in_parts(site: Site) -> None:
    assert asked(site, [b'{"te', b"", b'xt":"a"}']).status == 200


def test_a_body_that_does_not_come_is_not_waited_for(site: Site) -> None:
    late = asked(site, [b'{"text"', None])
    assert late.status == 408
    assert late.headers["connection"] == "close"
