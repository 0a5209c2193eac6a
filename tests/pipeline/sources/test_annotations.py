"""Exports of annotation tools are read as rows; what cannot be used is a reject with a reason."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import UserError
from pipeline.sources import Layout
from tests.pipeline.sources.reading import bad, good, read, write

TEXT = "Ann Miller moved to Oslo"
SPANS = [(0, 10, "PER"), (20, 24, "LOC")]


def lines(folder: Path, *records: Any, name: str = "a.jsonl") -> Path:
    content = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    return write(folder, name, content.encode())


def labels(path: Path, kind: Any, columns: tuple[str, ...] = ("text", "label")) -> list[Any]:
    rows = read(path, columns, Layout(kind))
    assert not bad(rows)
    return [json.loads(label) if label[:1] in "[{" and label else label for _, label in good(rows)]


def task(
    *annotations: list[dict[str, Any]], cancelled: bool = False, **data: Any
) -> dict[str, Any]:
    """A task of Label Studio with a list of results for each annotator."""
    return {
        "id": 1,
        "data": {"text": TEXT, **data},
        "annotations": [
            {"id": n, "was_cancelled": cancelled, "result": results}
            for n, results in enumerate(annotations)
        ],
        "predictions": [],
    }


def choice(*names: str) -> list[dict[str, Any]]:
    value = {"choices": list(names)}
    return [{"value": value, "from_name": "topic", "to_name": "text", "type": "choices"}]


def marked(*spans: tuple[int, int, str]) -> list[dict[str, Any]]:
    return [
        {"value": {"start": a, "end": b, "text": TEXT[a:b], "labels": [kind]}, "type": "labels"}
        for a, b, kind in spans
    ]


def test_label_studio_gives_what_its_annotators_agree_on(tmp_path: Path) -> None:
    records = [
        task(choice("sport")),
        task(choice("sport"), choice("sport")),
        task(choice("sport", "money"), choice("money", "sport")),
        task(choice("sport"), cancelled=True),
        task([]),
        task(),
        task([{"value": {"rating": 4}, "type": "rating"}]),
        task([{"value": {"taxonomy": [["a", "b"]]}, "type": "taxonomy"}]),
        task([{"value": {"text": ["a summary"]}, "type": "textarea"}]),
    ]
    path = write(tmp_path, "export.json", json.dumps(records).encode())
    expected = [["sport"], ["sport"], ["sport", "money"], "", "", "", "4", ["a/b"], "a summary"]
    assert labels(path, "label_studio") == expected


def test_label_studios_spans_say_their_text(tmp_path: Path) -> None:
    path = lines(tmp_path, task(marked(*SPANS)), task(marked(), marked(*SPANS[:1]), extra=7))
    rows = read(path, ("text", "label"), Layout("label_studio"))
    assert json.loads(good(rows)[0][1])[0] == {
        "start": 0,
        "end": 10,
        "text": "Ann Miller",
        "label": "PER",
    }
    assert bad(rows)[0][1].startswith("its annotators disagree: ")


def test_a_text_in_which_nothing_was_marked_has_no_entities(tmp_path: Path) -> None:
    path = lines(tmp_path, task(marked()), task(marked(*SPANS)), task())
    assert labels(path, "label_studio")[::2] == [[], ""]


def test_annotators_who_disagree_cost_the_row(tmp_path: Path) -> None:
    path = lines(tmp_path, task(choice("sport"), choice("money")), task(choice("film")))
    rows = read(path, ("text", "label"), Layout("label_studio"))
    assert bad(rows) == [(1, 'its annotators disagree: ["money"] and ["sport"]')]
    assert good(rows) == [(TEXT, '["film"]')]


def test_doccano_has_labels_entities_or_categories(tmp_path: Path) -> None:
    entities = [{"id": 0, "label": k, "start_offset": a, "end_offset": b} for a, b, k in SPANS]
    path = lines(
        tmp_path,
        {"id": 1, "text": TEXT, "entities": entities, "relations": []},
        {"id": 2, "text": TEXT, "cats": ["travel"]},
        {"id": 3, "text": TEXT, "label": ["travel"]},
        {"text": TEXT, "cats": {"travel": 1.0, "film": 0.0, "sport": True}},
        {"text": TEXT, "cats": {"travel": 0, "film": False}},
    )
    expected = [entities, ["travel"], ["travel"], ["travel", "sport"], []]
    assert labels(path, "doccano") == expected


def test_prodigy_labels_what_was_accepted(tmp_path: Path) -> None:
    spans = [{"start": a, "end": b, "label": kind} for a, b, kind in SPANS]
    more = [{**span, "token_start": 0, "token_end": 1} for span in spans]
    path = lines(
        tmp_path,
        {"text": TEXT, "spans": more, "answer": "accept"},
        {"text": TEXT, "spans": more, "answer": "reject"},
        {"text": TEXT, "accept": ["sport"], "options": [{"id": "sport"}], "answer": "accept"},
        {"text": TEXT, "label": "sport", "answer": "accept"},
        {"text": TEXT, "label": "sport", "answer": "ignore"},
    )
    assert labels(path, "prodigy") == [spans, "", ["sport"], "sport", ""]


def test_argilla_has_answers_of_people(tmp_path: Path) -> None:
    suggestion = {"topic": {"value": "film", "agent": "a model"}}
    path = lines(
        tmp_path,
        {
            "id": "1",
            "fields": {"text": TEXT},
            "suggestions": suggestion,
            "responses": {"topic": [{"value": "sport", "user_id": "u", "status": "submitted"}]},
        },
        {"id": "2", "fields": {"text": TEXT}, "suggestions": suggestion, "responses": {}},
        {
            "fields": {"text": TEXT},
            "responses": [
                {"status": "submitted", "values": {"topic": {"value": "money"}}},
                {"status": "discarded", "values": {"topic": {"value": "film"}}},
            ],
        },
    )
    assert labels(path, "argilla") == ["sport", "", "money"]
    assert labels(path, "argilla", ("text", "topic")) == ["sport", "", "money"]


TOKENS = TEXT.split()
TAGS = ["B-PER", "I-PER", "O", "O", "B-LOC"]
AS_SPANS = [list(span) for span in SPANS]


def test_tokens_with_tags_become_texts_with_spans(tmp_path: Path) -> None:
    path = lines(tmp_path, {"id": 7, "tokens": TOKENS, "ner_tags": TAGS})
    rows = read(path, ("text", "label", "id"), Layout("tokens"))
    assert good(rows, ("text", "id")) == [(TEXT, "7")]
    assert json.loads(good(rows)[0][1]) == AS_SPANS


def test_numbers_of_tags_need_names(tmp_path: Path) -> None:
    names = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
    path = lines(tmp_path, {"tokens": TOKENS, "ner_tags": [1, 2, 0, 0, 3]})
    rows = read(path, ("text", "label"), Layout("tokens"))
    assert bad(rows) == [(1, "its tags are numbers: name them by ingest.label_names, a tag a line")]
    rows = read(path, ("text", "label"), Layout("tokens", tags=names))
    assert json.loads(good(rows)[0][1]) == AS_SPANS


def test_parquet_of_datasets_names_its_tags(tmp_path: Path) -> None:
    import datasets

    names = datasets.ClassLabel(names=["O", "B-PER", "I-PER", "B-LOC"])
    strings = datasets.Sequence(datasets.Value("string"))
    features = datasets.Features({"tokens": strings, "ner_tags": datasets.Sequence(names)})
    rows = {"tokens": [TOKENS], "ner_tags": [[1, 2, 0, 0, 3]]}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "a.parquet")
    read_rows = read(tmp_path / "a.parquet", ("text", "label"), Layout("tokens"))
    assert json.loads(good(read_rows)[0][1]) == AS_SPANS


@pytest.mark.parametrize(
    ("record", "kind"),
    [
        (task(choice("sport")), "label_studio"),
        ({"text": TEXT, "label": "x", "answer": "accept"}, "prodigy"),
        ({"fields": {"text": TEXT}, "responses": {}}, "argilla"),
        ({"data": TEXT, "entities": [{"start_offset": 0, "end_offset": 3}]}, "doccano"),
        ({"tokens": TOKENS, "ner_tags": TAGS}, "tokens"),
    ],
)
def test_the_format_is_named_where_it_is_missing(
    tmp_path: Path, record: dict[str, Any], kind: str
) -> None:
    with pytest.raises(UserError, match=rf"looks like {kind}: set ingest.format to {kind}$"):
        read(lines(tmp_path, record), ("text", "topic"))


@pytest.mark.parametrize("kind", ["label_studio", "doccano", "prodigy", "argilla", "tokens"])
@pytest.mark.parametrize(
    "record",
    [
        {},
        {"data": 3, "fields": 3, "tokens": 3, "ner_tags": 3, "entities": 3, "answer": 3},
        {"data": {}, "annotations": 7, "fields": {}, "responses": 7, "spans": 7},
        {"data": {}, "annotations": [7, {"result": 7}, {"result": [7, {"value": 7}]}]},
        {"fields": {}, "responses": {"a": 7, "b": [7, {}]}, "tokens": [7], "ner_tags": [None]},
        {"fields": {}, "responses": [7, {"status": "submitted", "values": 7}], "tokens": []},
        {"answer": "accept", "spans": [7, {}], "tokens": ["a", ""], "ner_tags": ["O", "O"]},
    ],
)
def test_records_of_another_form_are_rejects(tmp_path: Path, kind: Any, record: Any) -> None:
    """A record gives a row, a reject, or one line about a missing column."""
    try:
        rows = read(lines(tmp_path, record, record), ("text", "label"), Layout(kind))
    except UserError as error:
        assert "no column 'text'" in str(error)
    else:
        assert len(rows) == 2
