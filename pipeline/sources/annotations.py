"""Readers of what annotation tools export as JSON: Label Studio, doccano, Prodigy, Argilla, and
tokens with tags as in Hugging Face's data sets.

Each yields the fields of a record with the annotation as `label` (JSON where it is a list). Rows
that nobody labelled have an empty label.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.core.errors import UserError
from pipeline.core.text import excerpt
from pipeline.sources.datasets_folder import read_saved
from pipeline.sources.json_records import read_records
from pipeline.sources.recognition import ANSWERS, TAGS, Record, tags_of
from pipeline.sources.rows import PLAIN, Layout, Reject, Row, as_json, checked, require
from pipeline.sources.tables import read_parquet
from pipeline.sources.tags import TagSurvey

Convert = Callable[[Record], dict[str, Any]]
UNLABELLED = None
SUBMITTED = "submitted"  # status of an answer in Argilla
MOST_NAMED = 20  # questions that a message names
STRUCTURES = ("tokens", *TAGS, "entities", "cats", "spans", "accept", "fields", "responses")


def read_annotations(
    path: Path, shown: str, columns: tuple[str, ...], convert: Convert
) -> Iterator[Row | Reject]:
    """Yield the records of an export in the form of rows; `convert` raises ValueError for one that
    cannot be used."""
    seen = False
    for (file, number), record in _records(path, shown):
        if isinstance(record, Reject):
            yield record
            continue
        try:
            fields = convert(record)
        except (ValueError, RecursionError) as error:
            yield Reject(file, number, str(error), _excerpt(record))
            continue
        if not seen:
            require(columns, tuple(fields), f"{shown}: row 1", "its first record has")
            seen = True
        yield checked(file, number, dict.fromkeys(columns, "") | fields)


def _records(path: Path, shown: str) -> Iterator[tuple[tuple[str, int], Any]]:
    """Yield the records of a file of JSON or Parquet or of a saved data set, and the file and
    number of each."""
    if not path.is_dir() and path.suffix.lower() != ".parquet":
        for number, record in read_records(path, shown):
            yield (shown, number), record
        return
    for row in (read_saved if path.is_dir() else read_parquet)(path, shown, ()):
        if isinstance(row, Reject):
            yield (row.file, row.number), row
        else:
            yield (row.file, row.number), {k: _structure(k, v) for k, v in row.fields.items()}


def _structure(name: str, cell: str) -> Any:
    """Return the list or object that a cell of Parquet holds as JSON; texts stay."""
    if cell[:1] in ("[", "{") and (name in STRUCTURES or ANSWERS in name):
        try:
            return json.loads(cell)
        except (ValueError, RecursionError):
            return cell
    return cell


def _excerpt(record: Record) -> str:
    try:
        return excerpt(json.dumps(record, ensure_ascii=False)[:400])
    except RecursionError:
        return ""


# Label Studio, https://labelstud.io/guide/export


def read_label_studio(path: Path, shown: str, columns: tuple[str, ...]) -> Iterator[Row | Reject]:
    """Yield the tasks of an export: their data, and the annotations as `label` or, where several
    questions are asked of a text, by the names of these questions (`from_name`).

    Raises UserError if several questions are asked and `label` is wanted.
    """
    questions = _questions(path, shown)
    nothing: Any = [] if [] in questions.values() else UNLABELLED
    questions.pop("", None)
    if len(questions) > 1 and "label" in columns and "label" not in questions:
        names = ", ".join(excerpt(name, 40) for name in list(questions)[:MOST_NAMED])
        raise UserError(f"{shown}: has answers to several questions: set ingest.label to {names}")
    own = ({"label": nothing} if len(questions) < 2 else {}) | questions
    wanted = {name: own[name] for name in own if name in (columns or own)}
    convert = partial(label_studio, questions=questions, wanted=wanted)
    yield from read_annotations(path, shown, columns, convert)


def _questions(path: Path, shown: str) -> dict[str, Any]:
    """Return the questions that an export has answers to, and the label of an annotation without
    results: in one with spans it says that a text has none; in others it says nothing. The name of
    a question is "" in results without one."""
    found: dict[str, Any] = {}
    for _, record in _records(path, shown):
        for annotation in [] if isinstance(record, Reject) else _annotations(record):
            for result in _objects(annotation.get("result")):
                label = _result_label([result])
                if label is not UNLABELLED:
                    name = str(result.get("from_name") or "")
                    found[name] = [] if _are_spans(label) else found.get(name, UNLABELLED)
    return found


def _are_spans(label: Any) -> bool:
    return isinstance(label, list) and any(isinstance(entry, dict) for entry in label)


def _annotations(record: Record) -> list[Record]:
    """Return the annotations that count: those that were not cancelled, or the ground truth."""
    given = _objects(record.get("annotations") or record.get("completions"))
    given = [each for each in given if not each.get("was_cancelled")]
    return [each for each in given if each.get("ground_truth") is True] or given


def label_studio(
    record: Record, questions: Mapping[str, Any], wanted: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the data of a task, and the label that its annotators agree on for each of the wanted
    names; `wanted` holds the label of an annotation without results."""
    data = record.get("data")
    if not isinstance(data, dict):
        raise ValueError("has no object `data`: it is no task of Label Studio")
    fields = dict.fromkeys(("label", *questions), UNLABELLED) | data
    for name, nothing in wanted.items():
        found = []
        for annotation in _annotations(record):
            results = _objects(annotation.get("result"))
            if name in questions:
                results = [each for each in results if each.get("from_name") == name]
            found.append(_result_label(results) if results else nothing)
        fields[name] = _agreed([label for label in found if label is not UNLABELLED])
    return fields


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
    fields = dict(record)
    if isinstance(record.get("entities"), list):
        fields["label"] = record["entities"]
    elif isinstance(cats := record.get("cats"), dict):  # spaCy's: 1 or 0 for each category
        fields["label"] = [name for name, given in cats.items() if given in (1, True)]
    elif "cats" in record:
        fields["label"] = cats
    return fields


# Prodigy, https://prodi.gy/docs/api-loaders


def prodigy(record: Record) -> dict[str, Any]:
    """Return an example, labelled if it was accepted: with its spans (`spans`), the accepted
    options (`accept`) or its label, which are `label`, too."""
    own = ("label", "accept", "spans")
    fields = {k: v for k, v in record.items() if k not in (*own, "options", "tokens")}
    fields |= dict.fromkeys(own, UNLABELLED)
    if record.get("answer") != "accept":
        return fields
    if "spans" in record:
        if record.get("_is_binary") is True:
            raise ValueError("says of one span that it is right, not which others the text has")
        keys = ("start", "end", "label")
        spans = [{key: span.get(key) for key in keys} for span in _objects(record["spans"])]
        fields |= {"spans": spans, "label": spans}
    elif "label" in record:
        fields["label"] = record["label"]
    if "accept" in record:
        fields |= {"accept": record["accept"], "label": record["accept"]}
    return fields


# Argilla, https://docs.argilla.io/latest/how_to_guides/import_export


def argilla(record: Record) -> dict[str, Any]:
    """Return the fields of a record, and for each question the answer that people agree on; the
    first question's answer is `label`, too. Suggestions of models are no labels."""
    if isinstance(record.get("fields"), dict):
        fields, values = dict(record["fields"]), _responses(record.get("responses"))
    else:
        flat = [k for k in record if k.endswith(ANSWERS)]
        if not flat:
            raise ValueError("has neither `fields` nor responses: it is no record of Argilla")
        names = [name.removesuffix(ANSWERS) for name in flat]
        fields = {
            k: v for k, v in record.items() if not k.startswith(tuple(f"{n}." for n in names))
        }
        values = {name: _flat_responses(record, name) for name in names}
    agreed = {question: _agreed(each) for question, each in values.items()}
    return fields | {"label": next(iter(agreed.values()), UNLABELLED)} | agreed


def _responses(responses: object) -> dict[str, list[Any]]:
    """Return the submitted answers to each question: in a list for each question, or in an object
    for each person."""
    values: dict[str, list[Any]] = {}
    for question, given in responses.items() if isinstance(responses, dict) else ():
        values[question] = [
            each.get("value")
            for each in _objects(given)
            if each.get("status", SUBMITTED) == SUBMITTED
        ]
    for response in _objects(responses):
        if response.get("status") == SUBMITTED:
            answers = response.get("values")
            for question, answer in answers.items() if isinstance(answers, dict) else ():
                value = answer.get("value") if isinstance(answer, dict) else answer
                values.setdefault(question, []).append(value)
    return values


def _flat_responses(record: Record, question: str) -> list[Any]:
    """Return the submitted answers to a question in a record of a flat data set."""
    values = record[f"{question}{ANSWERS}"]
    states = record.get(f"{question}{ANSWERS}.status")
    if not isinstance(values, list):
        return []
    if not isinstance(states, list) or len(states) != len(values):
        return values
    return [value for value, state in zip(values, states, strict=True) if state == SUBMITTED]


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
    for _, record in _records(path, shown):
        if isinstance(record, dict) and (tags := _named_tags(record, layout.tags)):
            survey.count(list(map(str, record["tokens"])), list(map(str, tags)))
    seen = False
    for (file, number), record in _records(path, shown):
        if isinstance(record, Reject):
            yield record
            continue
        try:
            fields = _sentence(record, survey, layout.tags)
        except ValueError as error:
            yield Reject(file, number, str(error), _excerpt(record))
            continue
        if not seen:
            require(columns, tuple(fields), f"{shown}: row 1", "its first record gives")
            seen = True
        yield checked(file, number, dict.fromkeys(columns, "") | fields)


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
