"""Documents that spaCy saved are read with their entities or categories, or refused in one line."""

import json
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import UserError
from tests.pipeline.sources.reading import bad, good, read

spacy = pytest.importorskip("spacy")
COLUMNS = ("text", "label", "categories")


def documents(*texts: str) -> list[Any]:
    language = spacy.blank("en")
    return [language(text) for text in texts]


def saved(path: Path, docs: list[Any], **options: Any) -> Path:
    from spacy.tokens import DocBin

    DocBin(docs=docs, **options).to_disk(path)
    return path


def with_entities(doc: Any, *spans: tuple[int, int, str]) -> Any:
    doc.set_ents([doc.char_span(*span) for span in spans], default="outside")
    return doc


def test_entities_are_spans_of_the_text(tmp_path: Path) -> None:
    one, two, three = documents("Ann Miller, née Stone,  moved to Oslo.", "It rained 🎉!", "No one")
    with_entities(one, (0, 10, "PERSON"), (33, 37, "CITY"))
    with_entities(two)
    rows = good(read(saved(tmp_path / "a.spacy", [one, two, three]), COLUMNS), COLUMNS)
    assert [text for text, *_ in rows] == [doc.text for doc in (one, two, three)]
    assert json.loads(rows[0][1]) == [[0, 10, "PERSON"], [33, 37, "CITY"]]
    assert [label for _, label, _ in rows[1:]] == ["[]", ""]


def test_entities_side_by_side_are_two(tmp_path: Path) -> None:
    (doc,) = documents("Ann Oslo Bergen")
    with_entities(doc, (0, 3, "PERSON"), (4, 8, "GPE"), (9, 15, "GPE"))
    (row,) = good(read(saved(tmp_path / "a.spacy", [doc]), COLUMNS), COLUMNS)
    assert json.loads(row[1]) == [[0, 3, "PERSON"], [4, 8, "GPE"], [9, 15, "GPE"]]


def test_categories_are_labels_where_there_are_no_entities(tmp_path: Path) -> None:
    docs = documents("a goal", "shares", "unlabelled")
    docs[0].cats = {"sport": 1.0, "money": 0.0}
    docs[1].cats = {"sport": 0.0, "money": 0.0}
    rows = good(read(saved(tmp_path / "a.spacy", docs), COLUMNS), COLUMNS)
    assert rows == [
        ("a goal", '["sport"]', '["sport"]'),
        ("shares", "[]", "[]"),
        ("unlabelled", "", "[]"),
    ]
    with_entities(docs[0], (0, 1, "X"))
    (row, *_) = good(read(saved(tmp_path / "b.spacy", docs), COLUMNS), COLUMNS)
    assert (json.loads(row[1]), row[2]) == ([[0, 1, "X"]], '["sport"]')


def test_scores_of_a_model_are_no_categories(tmp_path: Path) -> None:
    docs = documents("a goal", "shares")
    docs[0].cats = {"sport": 0.97, "money": 0.03}
    docs[1].cats = {"sport": 0.0, "money": 1.0}
    rows = read(saved(tmp_path / "a.spacy", docs), COLUMNS)
    assert bad(rows) == [(1, "a category has the score 0.97, not 1 or 0")]
    assert good(rows, COLUMNS) == [("shares", '["money"]', '["money"]')]
    with_entities(docs[0], (0, 1, "X"))
    with_entities(docs[1])
    rows = read(saved(tmp_path / "b.spacy", docs), COLUMNS)
    assert good(rows, COLUMNS) == [
        ("a goal", '[[0, 1, "X"]]', ""),
        ("shares", "[]", '["money"]'),
    ]


def test_entities_of_a_part_of_a_document_are_refused(tmp_path: Path) -> None:
    one, two = documents("Ann sings", "Bo sings")
    one.set_ents([one.char_span(0, 3, "PERSON")], default="missing")
    with_entities(two, (0, 2, "PERSON"))
    rows = read(saved(tmp_path / "a.spacy", [one, two]), COLUMNS)
    assert bad(rows) == [(1, "its entities are known in a part of it alone")]
    assert len(good(rows, COLUMNS)) == 1


def test_a_file_without_entities_among_its_attributes_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.spacy", documents("Ann sings"), attrs=["ORTH", "TAG"])
    with pytest.raises(UserError, match=r"a\.spacy: cannot be read .*: save it again"):
        read(path, COLUMNS)


@pytest.mark.parametrize(
    "content", [b"", b"no zlib", zlib.compress(b"no msgpack"), zlib.compress(b"\x80")]
)
def test_a_damaged_file_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.spacy"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.spacy: ") as caught:
        read(path, COLUMNS)
    assert "\n" not in str(caught.value)


def test_a_bomb_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.spacy"
    path.write_bytes(zlib.compress(bytes(300_000_000)))
    with pytest.raises(UserError, match="unpacks to more than 100 times its size"):
        read(path, COLUMNS)


def test_without_spacy_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "a.spacy", documents("Ann sings"))
    monkeypatch.setitem(sys.modules, "spacy.attrs", None)
    with pytest.raises(UserError, match=r"needs spaCy: pip install 'bertline\[spacy\]'"):
        read(path, COLUMNS)
