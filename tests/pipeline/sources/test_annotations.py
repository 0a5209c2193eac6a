"""Exports of annotation tools are read as rows; what cannot be used is a reject with a reason."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
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


def named(name: str, results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**result, "from_name": name} for result in results]


def test_of_several_questions_one_is_named(tmp_path: Path) -> None:
    entities, topic = named("entities", marked(*SPANS)), choice("sport")
    path = lines(tmp_path, task([*entities, *topic]), task(topic), task(entities), task([]), task())
    with pytest.raises(UserError, match=r"several questions: set ingest.label to entities, topic$"):
        read(path, layout=Layout("label_studio"))
    rows = read(path, ("text", "entities", "topic"), Layout("label_studio"))
    found = good(rows, ("entities", "topic"))
    assert [topic for _, topic in found] == ['["sport"]', '["sport"]', "", "", ""]
    counts = [len(json.loads(spans)) if spans else None for spans, _ in found]
    assert counts == [2, 0, 2, 0, None]


def test_a_disagreement_about_another_question_costs_no_row(tmp_path: Path) -> None:
    path = lines(
        tmp_path, task([*choice("a"), *named("mood", choice("x"))], named("mood", choice("y")))
    )
    assert good(read(path, ("text", "topic"), Layout("label_studio")), ("topic",)) == [('["a"]',)]
    rows = read(path, ("text", "topic", "mood"), Layout("label_studio"))
    assert bad(rows) == [(1, 'its annotators disagree: ["x"] and ["y"]')]


def test_the_ground_truth_counts_alone(tmp_path: Path) -> None:
    record = task(choice("sport"), choice("money"))
    record["annotations"][1]["ground_truth"] = True
    assert labels(lines(tmp_path, record), "label_studio") == [["money"]]


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


def test_prodigy_has_columns_of_what_was_accepted(tmp_path: Path) -> None:
    span = {"start": 0, "end": 3, "label": "PER"}
    both = {"text": TEXT, "spans": [span], "accept": ["sport"]}
    path = lines(tmp_path, {**both, "answer": "accept"}, {**both, "answer": "reject"})
    rows = read(path, ("text", "spans", "accept"), Layout("prodigy"))
    assert good(rows, ("spans", "accept")) == [(json.dumps([span]), '["sport"]'), ("", "")]


def test_a_span_that_was_judged_alone_says_nothing_of_the_others(tmp_path: Path) -> None:
    span = {"start": 0, "end": 3, "label": "PER"}
    path = lines(tmp_path, {"text": TEXT, "spans": [span], "answer": "accept", "_is_binary": True})
    rows = read(path, layout=Layout("prodigy"))
    assert bad(rows) == [(1, "says of one span that it is right, not which others the text has")]


def test_rejected_answers_are_no_labels_under_any_format(tmp_path: Path) -> None:
    path = lines(tmp_path, {"text": TEXT, "label": "sport", "answer": "reject"})
    with pytest.raises(UserError, match=r"looks like prodigy: set ingest.format to prodigy$"):
        read(path)
    assert good(read(path, ("text", "answer")), ("answer",)) == [("reject",)]


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


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_flat_data_sets_of_argilla_are_read(tmp_path: Path, suffix: str) -> None:
    states = ["submitted", "discarded"]
    rows: list[dict[str, Any]] = [
        {"text": TEXT, "topic.responses": ["sport", "film"], "topic.responses.status": states},
        {"text": TEXT, "topic.responses": None, "topic.responses.status": None},
    ]
    rows = [{**row, "topic.suggestion": "film"} for row in rows]
    path = lines(tmp_path, *rows)
    if suffix == ".parquet":
        path = tmp_path / "a.parquet"
        pq.write_table(pa.Table.from_pylist(rows), path)
    assert labels(path, "argilla") == ["sport", ""]


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
        ({"text": TEXT, "a.responses": ["x"], "a.suggestion": "y"}, "argilla"),
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
        {"a.responses": 7, "b.responses": [7], "b.responses.status": 7, "tokens": ["a"], "ner": 3},
        {
            "data": {},
            "annotations": [{"result": [{"value": {"choices": [7, {}]}, "from_name": 7}]}],
        },
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
