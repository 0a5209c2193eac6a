"""Secrets in URLs are refused, and not told."""

import pytest

from pipeline.core.errors import UserError
from pipeline.sources.urls import check_url, without_secrets


@pytest.mark.parametrize(
    "url",
    [
        "https://me:word@example.com/rows.csv",
        "https://example.com/rows.csv?X-Amz-Signature=abc",
        "https://example.com/rows.csv?api_key=abc",
        "https://example.com/rows.csv?page=2&PWD=abc",
        "https://abc@example.com/rows.csv",
        "abfs://rows:abc@account.dfs.core.windows.net/rows.csv",
    ],
)
def test_secrets_stay_out_of_recipes(url: str) -> None:
    with pytest.raises(UserError, match="give credentials by environment variables") as caught:
        check_url(url)
    assert "abc" not in str(caught.value)
    assert "word" not in str(caught.value).replace("password", "")


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("at https://me:word@a.b/c?sig=x twice\nmore", "at https://a.b/c twice"),
        ("url='http://a.b/c?sig=x' s3://k:v@a/b", "url='http://a.b/c' s3://a/b"),
        ("no address?", "no address?"),
    ],
)
def test_messages_of_clients_lose_queries_and_users(message: str, shown: str) -> None:
    assert without_secrets(message) == shown


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/rows.csv?version=3",
        "s3://bucket/rows",
        "abfs://rows@account.dfs.core.windows.net/rows.csv",
    ],
)
def test_a_url_without_secrets_is_taken(url: str) -> None:
    check_url(url)


def test_what_is_no_url_is_one_line() -> None:
    with pytest.raises(UserError, match=r"https://\[::1/a: is no URL"):
        check_url("https://me:word@[::1/a?sig=x")
