"""Parsing of bytes into rows, and refusals of one line."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.serving.settings import Limits
from tests.pipeline.serving.web import Site, Toy

FORMATS = ("inputs", "instances", "dataframe_records", "dataframe_split")


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site(Toy(3))
    yield site
    site.close()


@pytest.fixture(scope="module")
def strict() -> Iterator[Site]:
    """Site shared by all tests of the module."""
    site = Site(Toy(3), limits=Limits(characters=50, rows=3, bytes=2000))
    yield site
    site.close()


def _values() -> st.SearchStrategy[Any]:
    """Generate JSON values with the keys of requests."""
    others = ["text", "second", "rows", "columns", "data", "label", "consent", "id", "version"]
    keys = st.sampled_from([*FORMATS, *others])
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
        max_leaves=12,
    )


@pytest.mark.parametrize(
    "body",
    [
        {"inputs": ["goal", "bank"]},
        {"inputs": ["goal", "bank"], "params": {"anything": 1}},
        {"instances": ["goal", "bank"]},
        {"dataframe_records": [{"text": "goal"}, {"text": "bank"}]},
        {"dataframe_split": {"columns": ["text"], "data": [["goal"], ["bank"]]}},
        {"dataframe_split": {"columns": ["any"], "index": [0, 1], "data": [["goal"], ["bank"]]}},
        {"dataframe_split": {"columns": ["n", "text"], "data": [[1, "goal"], [2, "bank"]]}},
    ],
)
def test_texts_are_taken_in_mlflows_formats(site: Site, body: Any) -> None:
    assert len(site.post("/invocations", body).value["predictions"]) == 2
    assert site.batcher.version.asked == [("goal", ""), ("bank", "")]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "body",
    [
        {"inputs": [{"text": "a", "second": "b"}]},
        {"instances": [{"text": "a", "second": "b"}]},
        {"dataframe_records": [{"second": "b", "text": "a"}]},
        {"dataframe_split": {"columns": ["second", "text"], "data": [["b", "a"]]}},
    ],
)
def test_pairs_are_taken_in_mlflows_formats(site: Site, body: Any) -> None:
    site.swap(pairs := Toy(4, "pair"))
    assert site.post("/invocations", body).status == 200
    assert pairs.asked == [("a", "b")]


def test_a_table_of_too_many_columns_is_not_looked_at(site: Site) -> None:
    table = {"columns": [1] * 1001, "data": []}
    reply = site.post("/invocations", {"dataframe_split": table})
    assert (reply.status, reply.error) == (422, "dataframe_split.columns: has 1,001 names")


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/predict", b"", 400, "not JSON"),
        ("/invocations", b'{"inputs": ["a"], "instances": ["b"]}', 422, "should have one of"),
        ("/predict", b'{"text": "a"', 400, "not JSON"),
        ("/predict", b'{"text": "\xff"}', 400, "not UTF-8"),
        ("/predict", '{"text": "a"}'.encode("utf-16"), 400, "not UTF-8"),
        ("/predict", b'{"text": "\xed\xa0\x80"}', 400, "not UTF-8"),
        ("/predict", b'{"text": "\\ud800"}', 400, "surrogate"),
        ("/predict", b'{"\\uDFFF": "a"}', 400, "surrogate"),
        ("/predict", b'{"text": NaN}', 400, "NaN"),
        ("/predict", b'{"text": -Infinity}', 400, "Infinity"),
        ("/predict", b'{"text": "a", "text": "b"}', 400, "twice"),
        ("/predict", b"[" * 1999, 400, "deeply"),
        ("/predict", b'{"text":' * 240, 400, "not JSON"),
        ("/predict", b"[]", 422, "should be an object"),
        ("/predict", b"null", 422, "should be an object"),
        ("/predict", b"{}", 422, "text: field required"),
        ("/predict", b'{"text": 1}', 422, "text: "),
        ("/predict", b'{"text": 1e999}', 422, "text: "),
        ("/predict", b'{"text": null}', 422, "text: "),
        ("/predict", b'{"text": "a", "second": "b"}', 422, "second: "),
        ("/predict", b'{"text": "a", "x\\ny": "b"}', 422, "x"),
        ("/predict", b'{"text": "' + b"a" * 51 + b'"}', 422, "at most 50"),
        ("/predict", b'{"text": "' + b"a" * 2000 + b'"}', 413, "2,000 bytes"),
        ("/predict/batch", {"rows": [{"text": "a"}, {"text": 2}]}, 422, "rows.1.text"),
        ("/predict/batch", {"rows": [{"text": "a"}] * 4}, 413, "at most 3"),
        ("/predict/batch", {"rows": [0] * 4}, 413, "at most 3"),
        ("/predict/batch", {"rows": [{"text": "a"}, {"text": "a" * 51}]}, 422, "row 2"),
        ("/predict/batch", {"rows": {}}, 422, "rows"),
        ("/invocations", {}, 422, "inputs"),
        ("/invocations", [], 422, "object"),
        ("/invocations", {"inputs": "a"}, 422, "inputs"),
        ("/invocations", {"inputs": [["a"]]}, 422, "inputs.0"),
        ("/invocations", {"inputs": ["a"] * 4}, 413, "at most 3"),
        ("/invocations", {"dataframe_records": [{"text": None}]}, 422, "text"),
        ("/invocations", {"dataframe_split": {"columns": ["text"], "data": [[]]}}, 422, "0 cells"),
        ("/invocations", {"dataframe_split": {"columns": ["text"], "data": [["a"]] * 4}}, 413, "3"),
        ("/invocations", {"dataframe_split": {"columns": ["text"], "data": [1] * 4}}, 413, "at most 3"),  # noqa: E501
        ("/invocations", {"dataframe_split": {"columns": ["a", "b"], "data": [["", ""]]}}, 422, "text"),  # noqa: E501
        ("/feedback", {"text": "a", "label": "money"}, 422, "consent"),
        ("/feedback", {"text": "a", "label": "money", "consent": "yes"}, 422, "consent"),
        ("/feedback", {"text": "a", "label": " ", "consent": True}, 422, "label"),
        ("/feedback", {"text": "a", "label": "physics", "consent": True}, 422, "physics"),
        ("/feedback", {"text": "a", "label": "film", "consent": True, "id": "a b"}, 422, "id"),
        ("/feedback", {"text": "a", "label": "film", "consent": True, "version": "b/1"}, 422, "toy/3"),  # noqa: E501
        ("/feedback", {"text": "a", "label": "film", "consent": True, "version": ""}, 422, "toy/3"),
        ("/nothing", {}, 404, "nothing"),
        ("/healthz", {}, 405, "method"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_in_one_line(
    strict: Site, path: str, body: Any, status: int, words: str
) -> None:
    reply = strict.post(path, body)
    assert (reply.status, words in reply.error) == (status, True), reply.body
    assert strict.lines()[-1]["status"] == status


def test_a_number_of_ten_thousand_digits_is_refused() -> None:
    site = Site(Toy(1))
    assert site.post("/predict", b'{"text":' + b"9" * 10_000 + b"}").status == 400
    site.close()


def test_a_pair_needs_its_second_text(site: Site) -> None:
    site.swap(Toy(4, "pair"))
    assert "second: field required" in site.post("/predict", {"text": "a"}).error


def test_a_large_body_is_taken_whole() -> None:
    site = Site(Toy(1))
    rows = [{"text": f"{place} " * 200} for place in range(1000)]
    assert len(site.post("/predict/batch", {"rows": rows}).value["answers"]) == 1000
    site.close()


@given(
    path=st.sampled_from(["/predict", "/predict/batch", "/invocations", "/feedback"]),
    body=st.binary(max_size=60) | _values().map(lambda value: json.dumps(value).encode()),
)
@settings(max_examples=150)
def test_whatever_is_sent_is_answered_or_refused(strict: Site, path: str, body: bytes) -> None:
    reply = strict.post(path, body)
    assert reply.status in (200, 400, 413, 422)
    if reply.status != 200:
        assert reply.error


def test_an_emoji_of_two_escapes_is_one_character(site: Site) -> None:
    assert site.post("/predict", b'{"text": "\\ud83d\\ude00"}').status == 200
    assert site.batcher.version.asked == [("\N{GRINNING FACE}", "")]  # type: ignore[union-attr]
