"""Encodings are recognised, named in one line, and read only if the recipe names them."""

from pathlib import Path

import pytest

from pipeline.core.errors import UserError
from pipeline.sources import Layout
from pipeline.sources.encodings import recognise
from tests.pipeline.sources.reading import bad, good, read, write

TEXTS = {
    "zh": "这家酒店的房间很干净，服务员也很热情，下次一定还来住，早餐种类不多",
    "fr": "Le café était très bon, mais l’hôtel à Besançon nous a déçus",
    "de": "Schöne Grüße: das Zimmer für 80 € war größer als üblich",
    "pl": "Zażółć gęślą jaźń, proszę o szybką odpowiedź, święto",
    "ru": "Привет, сегодня хорошая погода, и мы идём гулять в парк",
    "ja": "今日は天気がいいので、東京タワーまで散歩に行きました",
    "ko": "오늘은 날씨가 좋아서 서울에서 친구를 만났습니다",
}


def table(text: str, rows: int = 40) -> str:
    return "text,label\r\n" + "".join(f'"{n}: {text}",x\r\n' for n in range(rows))


@pytest.mark.parametrize(
    ("language", "encoding", "found"),
    [
        ("zh", "utf-8", "utf-8"),
        ("zh", "utf-8-sig", "utf-8"),
        ("zh", "gbk", "gb18030"),
        ("zh", "gb18030", "gb18030"),
        ("zh", "utf-16", "utf-16"),
        ("zh", "utf-16-le", "utf-16-le"),
        ("zh", "utf-16-be", "utf-16-be"),
        ("zh", "utf-32", "utf-32"),
        ("fr", "cp1252", "cp1252"),
        ("fr", "utf-16", "utf-16"),
        ("fr", "utf-16-le", "utf-16-le"),
        ("de", "cp1252", "cp1252"),
        ("pl", "cp1250", "cp1250"),
        ("ru", "cp1251", "cp1251"),
        ("ru", "koi8-r", "koi8-r"),
        ("ja", "cp932", "cp932"),
        ("ko", "euc-kr", "euc-kr"),
    ],
)
def test_an_encoding_is_recognised_named_and_read(
    tmp_path: Path, language: str, encoding: str, found: str
) -> None:
    text = TEXTS[language]
    path = write(tmp_path, "a.csv", table(text).encode(encoding))
    assert recognise(path) == found
    if found != "utf-8":
        with pytest.raises(UserError, match=rf"set ingest.encoding to {found}$") as caught:
            read(path)
        assert "0: " in str(caught.value)  # the beginning, so that a person sees that it is right
    rows = read(path, layout=Layout(encoding=found))
    assert good(rows) == [(f"{n}: {text}", "x") for n in range(40)]
    assert [row.number for row in rows] == list(range(2, 42))


def test_a_named_encoding_that_is_wrong_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", table(TEXTS["zh"]).encode())
    with pytest.raises(UserError, match="is not GB18030, it looks like utf-8"):
        read(path, layout=Layout(encoding="gb18030"))
    path = write(tmp_path, "a.csv", table(TEXTS["fr"]).encode("utf-16"))
    with pytest.raises(UserError, match="is not CP1252, it looks like utf-16"):
        read(path, layout=Layout(encoding="cp1252"))


def test_bytes_that_do_not_decode_cost_their_row(tmp_path: Path) -> None:
    content = table(TEXTS["zh"], 5).encode("gb18030").replace(b"3: ", b"3: \xff")
    rows = read(write(tmp_path, "a.csv", content), layout=Layout(encoding="gb18030"))
    assert len(good(rows)) == 4
    assert bad(rows) == [(5, "is not gb18030")]


def test_plain_english_is_in_every_encoding(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", b"text,label\na,x\n")
    for encoding in ("utf-8", "cp1252", "gb18030"):
        assert good(read(path, layout=Layout(encoding=encoding))) == [("a", "x")]


def test_folders_of_files_have_an_encoding_too(tmp_path: Path) -> None:
    for label in ("neg", "pos"):
        for n in range(5):
            write(tmp_path, f"zh/{label}/{n}.txt", f"{n}{TEXTS['zh']}".encode("gbk"))
            write(tmp_path, f"lines/{label}.txt", f"{TEXTS['zh']}\n".encode("gbk") * 5)
    for name, layout in (("zh", None), ("lines", "lines")):
        with pytest.raises(UserError, match=r"set ingest.encoding to gb18030"):
            read(tmp_path / name, layout=Layout(layout))  # type: ignore[arg-type]
        rows = read(tmp_path / name, layout=Layout(layout, encoding="gb18030"))  # type: ignore[arg-type]
        assert len(good(rows)) == 10
        assert good(rows)[0][0].endswith(TEXTS["zh"])


def test_parallel_files_have_one_encoding(tmp_path: Path) -> None:
    write(tmp_path, "a.de", f"{TEXTS['de']}\n".encode("cp1252") * 4)
    write(tmp_path, "a.fr", f"{TEXTS['fr']}\n".encode("cp1252") * 4)
    layout = Layout("parallel", encoding="cp1252")
    rows = read(tmp_path / "a.de", ("de", "fr"), layout)
    assert good(rows, ("de", "fr")) == [(TEXTS["de"], TEXTS["fr"])] * 4
