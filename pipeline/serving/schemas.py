"""Models of the JSON in requests and responses, used for validation and the API's description."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.config import JsonDict

REQUEST_ID = r"^[A-Za-z0-9._-]{1,64}$"
TEXT_EXAMPLE: JsonDict = {"text": "The bank raised its rates, and shares fell."}
PAIR_EXAMPLE: JsonDict = TEXT_EXAMPLE | {
    "second": "Shares fell after the bank had raised its rates."
}


class Request(BaseModel):
    """Base of requests: no other keys, no conversion of types."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Text(Request):
    """A text."""

    model_config = ConfigDict(json_schema_extra={"examples": [TEXT_EXAMPLE]})
    text: str


class Pair(Request):
    """Two texts that are answered together."""

    model_config = ConfigDict(json_schema_extra={"examples": [PAIR_EXAMPLE]})
    text: str
    second: str


Row = TypeVar("Row")
Item = TypeVar("Item")


class Rows(Request, Generic[Row]):
    """Several rows, answered by the same version."""

    rows: list[Row]


class _Feedback(Request):
    label: str = Field(min_length=1, description="Right label, as in a row of a source")
    consent: bool = Field(description="True if the text may be stored and used for training")
    id: str | None = Field(None, pattern=REQUEST_ID, description="Id of the answered request")
    version: str | None = Field(None, max_length=200, description="Version, as in its answer")


class TextFeedback(Text, _Feedback):
    """Right label of a text."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [TEXT_EXAMPLE | {"label": "business", "consent": True}]}
    )


class PairFeedback(Pair, _Feedback):
    """Right label of a pair."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [PAIR_EXAMPLE | {"label": "same", "consent": True}]}
    )


# formats of MLflow's scoring server; other keys, such as params, are ignored as it ignores them


class _Mlflow(BaseModel):
    model_config = ConfigDict(strict=True)


class Columns(_Mlflow):
    """Pair of texts as a row of a table."""

    text: str
    second: str


class Inputs(_Mlflow, Generic[Item]):
    """Format of MLflow's client."""

    inputs: list[Item]


class Instances(_Mlflow, Generic[Item]):
    """Format of TensorFlow Serving."""

    instances: list[Item]


def _records(*columns: str) -> Any:
    """Return the type of rows by column. Its JSON schema lists the columns; others are ignored."""
    text = {"type": "string"}
    row = {"type": "object", "properties": dict.fromkeys(columns, text), "required": columns}
    return list[Annotated[dict[str, Any], WithJsonSchema(row)]]


def _table(*columns: str) -> Any:
    """Return the type of a table, with a JSON schema as in `_records`."""
    cells = {"type": "string"}
    row = {"type": "array", "items": cells, "minItems": len(columns), "maxItems": len(columns)}
    table = {
        "type": "object",
        "properties": {"columns": {"const": columns}, "data": {"type": "array", "items": row}},
        "required": ["columns", "data"],
    }
    return Annotated[Table, WithJsonSchema(table)]


class Table(_Mlflow):
    columns: list[str]
    data: list[list[Any]]


class TextRecords(_Mlflow):
    """Rows of a pandas table with the column text."""

    dataframe_records: _records("text")  # type: ignore[valid-type]


class PairRecords(_Mlflow):
    """Rows of a pandas table with the columns text and second."""

    dataframe_records: _records("text", "second")  # type: ignore[valid-type]


class TextSplit(_Mlflow):
    """Pandas table with the column text."""

    dataframe_split: _table("text")  # type: ignore[valid-type]


class PairSplit(_Mlflow):
    """Pandas table with the columns text and second."""

    dataframe_split: _table("text", "second")  # type: ignore[valid-type]


@dataclass(frozen=True)
class Shape:
    """Request models of a version: for texts or for pairs of texts."""

    columns: Sequence[str]
    row: type[BaseModel]
    rows: type[BaseModel]
    feedback: type[BaseModel]
    invocations: dict[str, type[BaseModel]]
    """Models of MLflow's formats by the key of the format."""


TEXTS = Shape(
    ("text",),
    Text,
    Rows[Text],
    TextFeedback,
    {
        "inputs": Inputs[str],
        "instances": Instances[str],
        "dataframe_split": TextSplit,
        "dataframe_records": TextRecords,
    },
)
PAIRS = Shape(
    ("text", "second"),
    Pair,
    Rows[Pair],
    PairFeedback,
    {
        "inputs": Inputs[Columns],
        "instances": Instances[Columns],
        "dataframe_split": PairSplit,
        "dataframe_records": PairRecords,
    },
)


# responses


class Entity(BaseModel):
    """Span of the text."""

    start: int = Field(description="First character, in Unicode code points from 0")
    end: int = Field(description="Character after the last")
    label: str
    text: str
    score: float


class Details(BaseModel):
    """Further parts of an answer; each task has its own keys, or none."""

    model_config = ConfigDict(extra="allow")
    labels: list[str] = Field([], description="Classes, if a text can have several")
    entities: list[Entity] = Field([], description="Spans of the text, in order")
    answer: str = Field("", description="Span of the second text that answers, if any")
    start: int = Field(0, description="Its first character in the second text")
    end: int = Field(0, description="Character after its last")


class Answer(BaseModel):
    """Answer of a version to a row."""

    label: str = Field(description="Label as a string, in the form of a row's label")
    score: float = Field(description="Confidence in the whole label, in [0, 1]")
    scores: dict[str, float] = Field(description="Scores of the classes, if the task has classes")
    details: Details


class Prediction(Answer):
    """Answer with the version that gave it."""

    id: str = Field(description="Id of the request")
    version: str = Field(description="Recipe and number, as news/3")


class Predictions(BaseModel):
    """Answers to the rows, in order, all by the same version."""

    id: str
    version: str
    answers: list[Answer]


class TableRow(BaseModel):
    """Row of MLflow's table; details, and score_<class> of each class, are further columns."""

    model_config = ConfigDict(extra="allow")
    label: str
    score: float


class Invocations(BaseModel):
    """Response of MLflow's scoring server."""

    predictions: list[TableRow]


class StoredFeedback(BaseModel):
    """Feedback that was stored."""

    id: str = Field(description="Id of the text, the same as in its row")
    version: str
    consent: bool


class Ready(BaseModel):
    """State of the server and its versions."""

    ready: bool
    version: str | None
    previous: str | None
    refused: dict[str, str] = Field(description="Reason of a version's refusal, by its number")
    texts: int = Field(description="Texts of a row: 1 or 2; 0 while there is no version")
    key: bool = Field(description="True if requests need an API key")


class Alive(BaseModel):
    """State of the process."""

    alive: bool


class Error(BaseModel):
    """Error message of one line."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"error": "text: field required"}]})
    error: str
