"""Readers of what annotation tools export as JSON: Label Studio, doccano, Prodigy, Argilla, and
tokens with tags as in Hugging Face's data sets.

Each yields the fields of a record with the annotation as `label` (JSON where it is a list). Rows
that nobody labelled have an empty label.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.core.text import excerpt
from pipeline.sources.datasets_folder import read_saved
from pipeline.sources.json_records import read_records
from pipeline.sources.recognition import TAGS, Record, tags_of
from pipeline.sources.rows import PLAIN, Layout, Reject, Row, as_json, checked, require
from pipeline.sources.tables import read_parquet
from pipeline.sources.tags import TagSurvey

Convert = Callable[[Record], dict[str, Any]]
UNLABELLED = None


def read_annotations(
    path: Path, shown: str, columns: tuple[str, ...], convert: Convert
) -> Iterator[Row | Reject]:
    """Yield the records of an export in the form of rows; `convert` raises ValueError for one that
    cannot be used."""
    seen = False
    for number, record in read_records(path, shown):
        if isinstance(record, Reject):
            yield record
            continue
        try:
            fields = convert(record)
        except (ValueError, RecursionError) as error:
            yield Reject(shown, number, str(error), excerpt(json.dumps(record)[:400]))
            continue
        if not seen:
            require(columns, tuple(fields), f"{shown}: row 1", "its first record has")
            seen = True
        yield checked(shown, number, dict.fromkeys(columns, "") | fields)


# Label Studio, https://labelstud.io/guide/export


def read_label_studio(path: Path, shown: str, columns: tuple[str, ...]) -> Iterator[Row | Reject]:
    """Yield the tasks of an export. In one with spans, an annotation without results says that a
    text has none; in others such a text is unlabelled."""
    nothing: Any = [] if any(map(_has_spans, read_records(path, shown))) else UNLABELLED
    yield from read_annotations(path, shown, columns, partial(label_studio, nothing=nothing))


def _has_spans(entry: tuple[int, Record | Reject]) -> bool:
    _, record = entry
    if isinstance(record, Reject):
        return False
    annotations = _objects(record.get("annotations") or record.get("completions"))
    results = (result for each in annotations for result in _objects(each.get("result")))
    values = (result.get("value") for result in results)
    return any(isinstance(value, dict) and "start" in value for value in values)


def label_studio(record: Record, nothing: Any = UNLABELLED) -> dict[str, Any]:
    """Return the data of a task with the label that its annotators agree on; `nothing` is the label
    of an annotation without results."""
    data = record.get("data")
    if not isinstance(data, dict):
        raise ValueError("has no object `data`: it is no task of Label Studio")
    found = []
    for annotation in _objects(record.get("annotations") or record.get("completions")):
        if not annotation.get("was_cancelled"):
            results = _objects(annotation.get("result"))
            found.append(_result_label(results) if results else nothing)
    return dict(data) | {"label": _agreed([label for label in found if label is not UNLABELLED])}


def _result_label(results: list[Record]) -> Any:
    """Return the spans, the choices or the number of some results."""
    spans, choices = [], []
    for result in results:
        value = result.get("value")
        if not isinstance(value, dict):
            continue
        kinds = next((v for k, v in value.items() if k.endswith("labels")), None)
        if isinstance(kinds, list) and "start" in value:
            own = {
                key: value[key] for key in ("start", "end", "text") if value.get(key) is not None
            }
            spans += [own | {"label": kind} for kind in kinds]
        elif isinstance(value.get("choices"), list):
            choices += value["choices"]
        elif isinstance(value.get("taxonomy"), list):
            choices += ["/".join(map(str, path)) for path in value["taxonomy"]]
        else:
            for key in ("rating", "number"):
                if isinstance(value.get(key), int | float):
                    return value[key]
            if isinstance(value.get("text"), list) and value["text"]:
                return str(value["text"][0])
    return spans or (choices or UNLABELLED)


# doccano, https://doccano.github.io/doccano


def doccano(record: Record) -> dict[str, Any]:
    """Return a document with its `label`, its `entities` or its categories (`cats`)."""
    fields = {key: value for key, value in record.items() if key not in ("entities", "cats")}
    if isinstance(record.get("entities"), list):
        fields["label"] = record["entities"]
    elif isinstance(cats := record.get("cats"), dict):  # spaCy's: 1 or 0 for each category
        fields["label"] = [name for name, given in cats.items() if given in (1, True)]
    elif "cats" in record:
        fields["label"] = cats
    return fields


# Prodigy, https://prodi.gy/docs/api-loaders


def prodigy(record: Record) -> dict[str, Any]:
    """Return an example, labelled if it was accepted: with its spans, the accepted options, or its
    label."""
    hidden = ("spans", "accept", "options", "tokens", "label")
    fields = {key: value for key, value in record.items() if key not in hidden}
    if record.get("answer") != "accept":
        return fields | {"label": UNLABELLED}
    if "accept" in record:
        return fields | {"label": record["accept"]}
    if "spans" in record:
        keys = ("start", "end", "label")
        spans = [{key: span.get(key) for key in keys} for span in _objects(record["spans"])]
        return fields | {"label": spans}
    return fields | {"label": record.get("label")}


# Argilla, https://docs.argilla.io/latest/how_to_guides/import_export


def argilla(record: Record) -> dict[str, Any]:
    """Return the fields of a record, and for each question the answer that people agree on; the
    first question's answer is `label`, too. Suggestions of models are no labels."""
    fields = record.get("fields")
    if not isinstance(fields, dict):
        raise ValueError("has no object `fields`: it is no record of Argilla")
    values: dict[str, list[Any]] = {}
    responses = record.get("responses")
    if isinstance(responses, dict):  # a list for each question
        for question, given in responses.items():
            values[question] = [
                each.get("value")
                for each in _objects(given)
                if each.get("status", "submitted") == "submitted"
            ]
    for response in _objects(responses):  # an object for each person
        if response.get("status") == "submitted":
            answers = response.get("values")
            for question, answer in answers.items() if isinstance(answers, dict) else ():
                value = answer.get("value") if isinstance(answer, dict) else answer
                values.setdefault(question, []).append(value)
    agreed = {question: _agreed(each) for question, each in values.items()}
    return dict(fields) | {"label": next(iter(agreed.values()), UNLABELLED)} | agreed


def _objects(value: object) -> list[Record]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _agreed(labels: list[Any]) -> Any:
    """Return the label that all annotators gave; None if there is none. Raises ValueError if they
    disagree."""
    if not labels:
        return UNLABELLED
    forms = {json.dumps(_sorted(label), sort_keys=True, default=str) for label in labels}
    if len(forms) > 1:
        shown = " and ".join(excerpt(form, 40) for form in sorted(forms)[:2])
        raise ValueError(f"its annotators disagree: {shown}")
    return labels[0]


def _sorted(label: Any) -> Any:
    if not isinstance(label, list):
        return label
    return sorted(label, key=lambda entry: json.dumps(entry, sort_keys=True, default=str))


# tokens with tags, https://huggingface.co/docs/datasets


def read_tokens(
    path: Path, shown: str, columns: tuple[str, ...], layout: Layout = PLAIN
) -> Iterator[Row | Reject]:
    """Yield records with a list of `tokens` and a list of tags (`ner_tags`, `tags` or `labels`) as
    texts with spans. Numbers of tags need names: those of ClassLabel, or the layout's. The path is
    that of a JSON or Parquet file, or of a folder that `datasets` saved.
    """
    survey = TagSurvey()
    for _, record in _token_records(path, shown):
        if isinstance(record, dict) and (tags := _named_tags(record, layout.tags)):
            survey.count(list(map(str, record["tokens"])), list(map(str, tags)))
    seen = False
    for (file, number), record in _token_records(path, shown):
        if isinstance(record, Reject):
            yield record
            continue
        try:
            fields = _sentence(record, survey, layout.tags)
        except ValueError as error:
            yield Reject(file, number, str(error), excerpt(json.dumps(record)[:400]))
            continue
        if not seen:
            require(columns, tuple(fields), f"{shown}: row 1", "its first record gives")
            seen = True
        yield checked(file, number, dict.fromkeys(columns, "") | fields)


def _token_records(path: Path, shown: str) -> Iterator[tuple[tuple[str, int], Any]]:
    """Yield the records of a file or folder, and the file and number of each."""
    if not path.is_dir() and path.suffix.lower() != ".parquet":
        for number, record in read_records(path, shown):
            yield (shown, number), record
        return
    for row in (read_saved if path.is_dir() else read_parquet)(path, shown, ()):
        if isinstance(row, Reject):
            yield (row.file, row.number), row
        else:
            lists = ("tokens", *TAGS)
            own = {k: json.loads(v) for k, v in row.fields.items() if k in lists and v[:1] == "["}
            yield (row.file, row.number), dict(row.fields) | own


def _named_tags(record: Record, names: Sequence[str]) -> list[Any] | None:
    tags = tags_of(record)
    if tags is None or not names:
        return tags
    numbers = range(len(names))
    return [names[tag] if type(tag) is int and tag in numbers else tag for tag in tags]


def _sentence(record: Record, survey: TagSurvey, names: Sequence[str]) -> dict[str, Any]:
    tokens, tags = record.get("tokens"), _named_tags(record, names)
    if tags is None or not isinstance(tokens, list):
        raise ValueError(
            "has no list `tokens` with a list of as many tags (ner_tags, tags, labels)"
        )
    if not tokens or not all(isinstance(token, str) and token.strip() for token in tokens):
        raise ValueError("its tokens are not all texts")
    if not all(isinstance(tag, str) for tag in tags):
        raise ValueError("its tags are numbers: name them by ingest.label_names, a tag a line")
    text, spans = survey.text_and_spans([token.strip() for token in tokens], tags)
    others = {k: v for k, v in record.items() if k not in ("tokens", *TAGS)}
    return others | {"text": text, "label": as_json(spans), "tokens": as_json(tokens)}


EXPORTS: dict[str, Callable[[Path, str, tuple[str, ...]], Iterator[Row | Reject]]] = {
    "label_studio": read_label_studio,
    "doccano": partial(read_annotations, convert=doccano),
    "prodigy": partial(read_annotations, convert=prodigy),
    "argilla": partial(read_annotations, convert=argilla),
}
