"""Search finds the rows nearest to a query, by comparison and by graph."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.core.errors import UserError
from pipeline.embeddings import index, search
from pipeline.embeddings.embedder import Extraction
from pipeline.embeddings.extract import Rows
from pipeline.embeddings.search import answers_of_embeddings, answers_of_rows
from tests.pipeline.embeddings.conftest import Embeds, Opened, how


@pytest.mark.parametrize("most", [0, 50_000], ids=["graph", "exact"])
def test_a_rows_own_text_finds_it_first(
    most: int,
    source: Path,
    tmp_path: Path,
    asked: Extraction,
    opened: Opened,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(search, "EXACT", most)
    rows = Rows(str(source))
    answers = answers_of_rows(rows, asked, opened(asked), ("name",), tmp_path / "state")
    texts = [row.fields["text"] for row in rows.used()]
    found = answers.nearest(texts, 3)
    for text, hits in zip(texts, found, strict=True):
        assert hits[0].fields["text"] == text
        assert hits[0].similarity == pytest.approx(1, abs=1e-5)
        assert [hit.similarity for hit in hits] == sorted(
            (hit.similarity for hit in hits), reverse=True
        )
    assert found[7][0].fields["name"] == "row 7"
    assert len(answers.nearest(["the goal"], 100)[0]) == 50


def test_what_was_made_of_a_file_is_made_once_and_other_columns_need_no_encoder(
    source: Path, tmp_path: Path, asked: Extraction, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "EXACT", 0)
    rows, state = Rows(str(source)), tmp_path / "state"
    first = answers_of_rows(rows, asked, opened(asked), (), state).nearest(["the goal"], 4)
    monkeypatch.delattr(search, "embed")
    monkeypatch.delattr(index, "build")
    again = answers_of_rows(rows, asked, opened(asked), (), state).nearest(["the goal"], 4)
    assert again == first
    more = answers_of_rows(rows, asked, opened(asked), ("label", "name"), state)
    (hits,) = more.nearest(["the goal"], 4)
    assert [hit.fields["text"] for hit in hits] == [hit.fields["text"] for hit in first[0]]
    assert list(hits[0].fields) == ["text", "label", "name"]


def test_columns_stand_beside_their_own_rows_where_others_are_left_out(
    tmp_path: Path, asked: Extraction, opened: Opened
) -> None:
    source = tmp_path / "faq.csv"
    source.write_text("text,answer\nthe goal,one\n,two\nshares of the bank,three\nactor,\n")
    rows = Rows(str(source))
    answers = answers_of_rows(rows, asked, opened(asked), ("answer",), tmp_path / "state")
    found = [
        hits[0].fields["answer"] for hits in answers.nearest(["shares of the bank", "actor"], 1)
    ]
    assert found == ["three", ""]


@pytest.mark.parametrize("name", ["out.parquet", "out.npy"])
@pytest.mark.parametrize("most", [0, 50_000], ids=["graph", "exact"])
def test_a_file_of_embeddings_is_searched_as_it_is(
    most: int,
    name: str,
    source: Path,
    tmp_path: Path,
    asked: Extraction,
    opened: Opened,
    embedded: Embeds,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(search, "EXACT", most)
    out, own = tmp_path / name, tmp_path / "state"
    rows = Rows(str(source), label="label", carry=("name",))
    embedded(rows, out, asked)
    ninth = list(rows.used())[9].fields
    answers = answers_of_embeddings(out, opened(asked)(), (), own)
    (hits,) = answers.nearest([ninth["text"]], 2)
    assert hits[0].fields == {"id": "11", "label": ninth["label"], "name": "row 9"}
    chosen = answers_of_embeddings(out, opened(asked)(), ("name",), own)
    assert chosen.nearest([ninth["text"]], 1)[0][0].fields == {"name": "row 9"}
    with pytest.raises(UserError, match=r"no column 'nam': its columns are .* did you mean name"):
        answers_of_embeddings(out, opened(asked)(), ("nam",), own)


def test_centroids_are_searched_as_rows_are(
    source: Path,
    tmp_path: Path,
    asked: Extraction,
    opened: Opened,
    embedded: Embeds,
) -> None:
    out = tmp_path / "centroids.parquet"
    rows = Rows(str(source), label="label")
    embedded(rows, out, asked, centroids=True)
    answers = answers_of_embeddings(out, opened(asked)(), (), tmp_path / "state")
    (hits,) = answers.nearest(["goal striker league"], 3)
    assert {hit.fields["id"] for hit in hits} == {"film", "money", "sport"}
    assert sum(int(hit.fields["rows"]) for hit in hits) == 50


def test_embeddings_of_tokens_are_refused(
    source: Path, tmp_path: Path, opened: Opened, embedded: Embeds, tiny_base: Path
) -> None:
    by_token = how(tiny_base, level="token", pooling=None)
    out = tmp_path / "tokens.npy"
    embedded(Rows(str(source)), out, by_token)
    with pytest.raises(UserError, match=r"tokens\.npy: has one row per token"):
        answers_of_embeddings(out, opened(by_token)(), (), tmp_path / "state")


def test_a_cell_that_cannot_be_shown_moves_no_other(
    tmp_path: Path, asked: Extraction, opened: Opened
) -> None:
    source = tmp_path / "faq.parquet"
    texts = pa.array(["the goal", "shares of the bank", "actor"])
    answers = pa.array([b"one", b"\xff", b"three"], pa.binary())
    pq.write_table(pa.table({"text": texts, "answer": answers}), source)
    found = answers_of_rows(Rows(str(source)), asked, opened(asked), ("answer",), tmp_path / "s")
    told = [hits[0].fields for hits in found.nearest(texts.to_pylist(), 1)]
    assert [row["text"] for row in told] == texts.to_pylist()
    assert [row["answer"] for row in told] == ["one", "", "three"]
