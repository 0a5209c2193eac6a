"""From a request's bytes to rows: strict JSON, the shape that the version asks for, the limits."""

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from pipeline.serving.guard import Refusal
from pipeline.serving.schemas import Shape
from pipeline.serving.settings import Limits
from pipeline.tasks.base.encoding import Texts

MOST_COLUMNS = 1000  # of a table
Kind = TypeVar("Kind", bound=BaseModel)


def parsed(body: bytes) -> Any:
    """JSON as RFC 8259 has it, in UTF-8: no NaN, no key twice, no half of a surrogate pair.

    Raises Refusal (400).
    """
    try:
        text = body.decode("utf-8")
        value = _DECODER.decode(text)
        if "\\ud" in text or "\\uD" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeDecodeError:
        raise Refusal(400, "the body is no UTF-8") from None
    except UnicodeEncodeError:
        raise Refusal(400, "the body holds half of a surrogate pair, which is no text") from None
    except RecursionError:
        raise Refusal(400, "the body is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise Refusal(
            400, f"the body is no JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from None
    except ValueError as error:  # of the hooks, or a number of too many digits
        known = error.args[0] if isinstance(error, _NoJsonError) else "a number is too long"
        raise Refusal(400, f"the body is no JSON: {known}") from None
    return value


class _NoJsonError(ValueError):
    pass


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _NoJsonError("a key stands twice in one object")
    return found


def _constant(name: str) -> Any:
    raise _NoJsonError(f"{name} is no number of JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)


def checked(kind: type[Kind], value: object) -> Kind:
    """A parsed body as what it should be. Raises Refusal (422) with the first that is wrong."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part)[:60] for part in first["loc"]) or "the body"
        if first["type"] in ("model_type", "dict_type"):
            raise Refusal(422, f"{where}: should be an object") from None
        raise Refusal(422, f"{where}: {first['msg'][:1].lower()}{first['msg'][1:]}") from None


def rows_of(value: object, shape: Shape, limits: Limits) -> list[Texts]:
    """The rows of /predict/batch."""
    if isinstance(value, dict) and isinstance(value.get("rows"), list):
        _few(len(value["rows"]), limits)  # before each of them is looked at
    asked: Any = checked(shape.rows, value)
    return [texts_of(row) for row in asked.rows]


def texts_of(row: Any) -> Texts:
    return row.text, getattr(row, "second", "")


def invoked(value: object, shape: Shape, limits: Limits) -> list[Texts]:
    """The rows of /invocations, in any of MLflow's formats."""
    if not isinstance(value, dict):
        raise Refusal(422, "the body: should be an object")
    formats = [name for name in shape.invocations if name in value]
    if len(formats) != 1:
        raise Refusal(422, f"the body: should have one of {', '.join(shape.invocations)}")
    given = formats[0]
    content = value[given]
    for name, each in content.items() if isinstance(content, dict) else [("", content)]:
        if not isinstance(each, list):
            continue
        if name != "columns":
            _few(len(each), limits)  # before what is in it is looked at
        elif len(each) > MOST_COLUMNS:
            raise Refusal(422, f"{given}.columns: has {len(each):,} names")
    asked = getattr(checked(shape.invocations[given], {given: content}), given)
    if given == "dataframe_split":
        rows = [_row(asked.columns, row, f"{given}.data.{i}") for i, row in enumerate(asked.data)]
    else:
        rows = asked
    return [_cells(row, shape, f"{given}.{i}") for i, row in enumerate(rows)]


def _row(columns: list[str], cells: list[Any], at: str) -> Mapping[str, Any]:
    if len(cells) != len(columns):
        raise Refusal(422, f"{at}: has {len(cells)} cells, for {len(columns)} columns")
    return dict(zip(columns, cells, strict=True))


def _cells(row: Any, shape: Shape, at: str) -> Texts:
    """A text, a pair or a row of a table. A table's only column may have any name."""
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


def keep_limits(rows: list[Texts], limits: Limits) -> None:
    """Raises Refusal for too many rows (413) or characters (422)."""
    _few(len(rows), limits)
    for place, row in enumerate(rows, 1):
        for text in row:
            if len(text) > limits.characters:
                at = f"row {place}: " if len(rows) > 1 else ""
                raise Refusal(
                    422,
                    f"{at}a text of {len(text):,} characters: send at most {limits.characters:,}",
                )


def _few(rows: int, limits: Limits) -> None:
    if rows > limits.rows:
        raise Refusal(413, f"{rows:,} rows: send at most {limits.rows:,} at once")
