"""Parsing of requests into rows: strict JSON, the shape for the version, and the limits."""

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from pipeline.serving.guard import Refusal
from pipeline.serving.schemas import Shape
from pipeline.serving.settings import Limits
from pipeline.tasks.base.encoding import Texts

MOST_COLUMNS = 1000  # limit of a table's columns
Model = TypeVar("Model", bound=BaseModel)


def parse(body: bytes) -> Any:
    """Parse JSON as in RFC 8259, in UTF-8: no NaN, duplicate keys or halves of surrogate pairs.

    Raises Refusal (400).
    """
    try:
        text = body.decode("utf-8")
        value = _DECODER.decode(text)
        if "\\ud" in text or "\\uD" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeDecodeError:
        raise Refusal(400, "the body is not UTF-8") from None
    except UnicodeEncodeError:
        raise Refusal(400, "the body has half of a surrogate pair, which is not text") from None
    except RecursionError:
        raise Refusal(400, "the body is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise Refusal(
            400, f"the body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from None
    except ValueError as error:  # from the hooks, or a number with too many digits
        reason = error.args[0] if isinstance(error, _NotJsonError) else "a number is too long"
        raise Refusal(400, f"the body is not JSON: {reason}") from None
    return value


class _NotJsonError(ValueError):
    pass


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _NotJsonError("a key appears twice in one object")
    return found


def _constant(name: str) -> Any:
    raise _NotJsonError(f"{name} is not a number in JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)


def validate(model: type[Model], value: object) -> Model:
    """Validate a parsed body. Raises Refusal (422) with the first error."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part)[:60] for part in first["loc"]) or "the body"
        if first["type"] in ("model_type", "dict_type"):
            raise Refusal(422, f"{where}: should be an object") from None
        raise Refusal(422, f"{where}: {first['msg'][:1].lower()}{first['msg'][1:]}") from None


def rows_of(value: object, shape: Shape, limits: Limits) -> list[Texts]:
    """Return the rows of a request to /predict/batch."""
    if isinstance(value, dict) and isinstance(value.get("rows"), list):
        _check_count(len(value["rows"]), limits)  # before they are validated
    request: Any = validate(shape.rows, value)
    return [texts_of(row) for row in request.rows]


def texts_of(row: Any) -> Texts:
    return row.text, getattr(row, "second", "")


def rows_of_invocation(value: object, shape: Shape, limits: Limits) -> list[Texts]:
    """Return the rows of a request to /invocations in any of MLflow's formats."""
    if not isinstance(value, dict):
        raise Refusal(422, "the body: should be an object")
    formats = [name for name in shape.invocations if name in value]
    if len(formats) != 1:
        raise Refusal(422, f"the body: should have one of {', '.join(shape.invocations)}")
    (key,) = formats
    content = value[key]
    for name, each in content.items() if isinstance(content, dict) else [("", content)]:
        if not isinstance(each, list):
            continue
        if name != "columns":
            _check_count(len(each), limits)  # before its rows are validated
        elif len(each) > MOST_COLUMNS:
            raise Refusal(422, f"{key}.columns: has {len(each):,} names")
    rows = getattr(validate(shape.invocations[key], {key: content}), key)
    if key == "dataframe_split":
        rows = [_row(rows.columns, row, f"{key}.data.{i}") for i, row in enumerate(rows.data)]
    return [_cells(row, shape, f"{key}.{i}") for i, row in enumerate(rows)]


def _row(columns: list[str], cells: list[Any], at: str) -> Mapping[str, Any]:
    if len(cells) != len(columns):
        raise Refusal(422, f"{at}: has {len(cells)} cells, for {len(columns)} columns")
    return dict(zip(columns, cells, strict=True))


def _cells(row: Any, shape: Shape, at: str) -> Texts:
    """Return the texts of a text, a pair or a row of a table, whose only column may have any
    name."""
    if isinstance(row, str):
        return row, ""
    named = row if isinstance(row, Mapping) else row.model_dump()
    if len(shape.columns) == 1 == len(named):
        cells = list(named.values())
    else:
        cells = [named.get(column) for column in shape.columns]
    for column, cell in zip(shape.columns, cells, strict=True):
        if not isinstance(cell, str):
            raise Refusal(422, f"{at}.{column}: should be a string")
    first, *more = cells
    return first, "".join(more)


def check_limits(rows: list[Texts], limits: Limits) -> None:
    """Raise Refusal for too many rows (413) or characters (422)."""
    _check_count(len(rows), limits)
    for number, row in enumerate(rows, 1):
        for text in row:
            if len(text) > limits.characters:
                at = f"row {number}: " if len(rows) > 1 else ""
                raise Refusal(
                    422,
                    f"{at}a text of {len(text):,} characters: send at most {limits.characters:,}",
                )


def _check_count(rows: int, limits: Limits) -> None:
    if rows > limits.rows:
        raise Refusal(413, f"{rows:,} rows: send at most {limits.rows:,} at once")
