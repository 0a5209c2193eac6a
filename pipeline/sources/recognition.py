"""Recognition of the exports of annotation tools by one of their records."""

from collections.abc import Mapping
from typing import Any

from pipeline.sources.rows import Format

Record = Mapping[str, Any]
ANSWERS = ".responses"  # behind the name of a question in Argilla's flat data sets
TAGS = ("ner_tags", "tags", "labels", "label", "ner")  # names of the list of tags


def recognise_records(record: Record) -> Format | None:
    """Return the format of an export by one of its records; None for a plain record."""
    if isinstance(record.get("data"), dict) and (
        "annotations" in record or "completions" in record
    ):
        return "label_studio"
    if isinstance(record.get("fields"), dict) and "responses" in record:
        return "argilla"
    if any(str(name).endswith(ANSWERS) for name in record):
        return "argilla"
    if record.get("answer") in ("accept", "reject", "ignore"):
        return "prodigy"
    if _are_offsets(record.get("entities")) or "cats" in record:
        return "doccano"
    if isinstance(record.get("tokens"), list) and tags_of(record) is not None:
        return "tokens"
    return None


def _are_offsets(entities: object) -> bool:
    return isinstance(entities, list) and all(
        isinstance(entity, dict) and "start_offset" in entity for entity in entities
    )


def tags_of(record: Record) -> list[Any] | None:
    """Return the tags of a record's tokens: a list of the same length, of a usual name."""
    tokens = record.get("tokens")
    for name in TAGS:
        tags = record.get(name)
        if isinstance(tags, list) and isinstance(tokens, list) and len(tags) == len(tokens):
            return tags
    return None
